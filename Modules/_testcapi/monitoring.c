/* Thin wrappers over the monitoring C-API.

   fire_event_NAME(codelike, offset, ..., *, state=None, pending=None) fires
   one event.  The states are those of codelike; state is the index of the one
   to use: by default offset, where that is an index, and otherwise 0.
   pending is an exception to have set meanwhile; exception events take theirs
   as the last positional argument, None for none.

   monitoring_vectorcall(codelike, offset, callable, ...) calls with the first
   three states of codelike, those of CALL, C_RETURN and C_RAISE.

   monitoring_set_frame_namespaces(codelike, globals, locals) takes None for
   NULL; monitoring_add_traceback(exc, codelike, offset, lineno) has exc set,
   unless it is None, and returns what the function does. */

#include "parts.h"
#include <stddef.h>                 // offsetof()

/* ------ Code-likes ------ */

typedef struct {
    PyObject_HEAD
    PyMonitoringState *states;
    Py_ssize_t num_states;
    uint64_t version;
    PyObject *name;
    PyObject *filename;
    int firstlineno;
    PyObject *weakrefs;             // of WeakCodeLike alone
} CodeLike;

static PyObject *
codelike_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *kwlist[] = {
        "num_states", "name", "filename", "firstlineno", NULL
    };
    Py_ssize_t num_states;
    PyObject *name = NULL;
    PyObject *filename = NULL;
    int firstlineno = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|UUi", kwlist,
                                     &num_states, &name, &filename,
                                     &firstlineno))
    {
        return NULL;
    }
    if (num_states < 0) {
        PyErr_SetString(PyExc_ValueError, "num_states must not be negative");
        return NULL;
    }
    CodeLike *self = (CodeLike *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->firstlineno = firstlineno;
    self->num_states = num_states;
    self->states = PyMem_Calloc(num_states, sizeof(PyMonitoringState));
    if (self->states == NULL) {
        PyErr_NoMemory();
        goto error;
    }
    self->name = name ? Py_NewRef(name) : PyUnicode_FromString("codelike");
    self->filename = filename ? Py_NewRef(filename)
                              : PyUnicode_FromString("<codelike>");
    if (self->name == NULL || self->filename == NULL) {
        goto error;
    }
    return (PyObject *)self;

error:
    Py_DECREF(self);
    return NULL;
}

static void
codelike_dealloc(PyObject *op)
{
    CodeLike *self = (CodeLike *)op;
    PyTypeObject *type = Py_TYPE(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    PyMem_Free(self->states);
    Py_XDECREF(self->name);
    Py_XDECREF(self->filename);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
codelike_get_states(PyObject *op, void *Py_UNUSED(closure))
{
    CodeLike *self = (CodeLike *)op;
    return PyBytes_FromStringAndSize(
        (char *)self->states, self->num_states * sizeof(PyMonitoringState));
}

static int
codelike_set_states(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    CodeLike *self = (CodeLike *)op;
    Py_ssize_t size = self->num_states * sizeof(PyMonitoringState);
    if (value == NULL || !PyBytes_Check(value)
        || PyBytes_GET_SIZE(value) != size)
    {
        PyErr_Format(PyExc_TypeError, "states must be %zd bytes", size);
        return -1;
    }
    memcpy(self->states, PyBytes_AS_STRING(value), size);
    return 0;
}

#define CODELIKE_MEMBERS \
    {"co_name", Py_T_OBJECT_EX, offsetof(CodeLike, name), Py_READONLY}, \
    {"co_filename", Py_T_OBJECT_EX, offsetof(CodeLike, filename), \
     Py_READONLY}, \
    {"co_firstlineno", Py_T_INT, offsetof(CodeLike, firstlineno), \
     Py_READONLY}, \
    {"version", Py_T_ULONGLONG, offsetof(CodeLike, version), 0}

static PyMemberDef codelike_members[] = {
    CODELIKE_MEMBERS,
    {NULL},
};

static PyMemberDef weak_codelike_members[] = {
    CODELIKE_MEMBERS,
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(CodeLike, weakrefs),
     Py_READONLY},
    {NULL},
};

/* states: the raw memory of the state array, 2 bytes each, active first. */
static PyGetSetDef codelike_getset[] = {
    {"states", codelike_get_states, codelike_set_states},
    {NULL},
};

#define CODELIKE_SLOTS(MEMBERS) \
    { \
        {Py_tp_new, codelike_new}, \
        {Py_tp_dealloc, codelike_dealloc}, \
        {Py_tp_members, MEMBERS}, \
        {Py_tp_getset, codelike_getset}, \
        {0, NULL}, \
    }

static PyType_Slot codelike_slots[] = CODELIKE_SLOTS(codelike_members);
static PyType_Slot weak_codelike_slots[] =
    CODELIKE_SLOTS(weak_codelike_members);

static PyType_Spec codelike_spec = {
    .name = "_testcapi.CodeLike",
    .basicsize = sizeof(CodeLike),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = codelike_slots,
};

static PyType_Spec weak_codelike_spec = {
    .name = "_testcapi.WeakCodeLike",
    .basicsize = sizeof(CodeLike),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = weak_codelike_slots,
};

/* Each interpreter has types of its own; what they share is this function. */
static CodeLike *
as_codelike(PyObject *op)
{
    if (Py_TYPE(op)->tp_dealloc != codelike_dealloc) {
        PyErr_Format(PyExc_TypeError, "%T is no code-like of _testcapi", op);
        return NULL;
    }
    return (CodeLike *)op;
}

/* ------ The Fire functions ------ */

typedef PyMonitoringState State;

typedef struct {
    const char *method;
    int event;
    Py_ssize_t nargs;               // after codelike and offset
    int reports_exception;
    int (*plain)(State *, PyObject *, int32_t);
    int (*line)(State *, PyObject *, int32_t, int);
    int (*value)(State *, PyObject *, int32_t, PyObject *);
    int (*call)(State *, PyObject *, int32_t, PyObject *, PyObject *);
} FireFunction;

#define PLAIN(METHOD, ID, NAME) \
    {"fire_event_" METHOD, PY_MONITORING_EVENT_ ## ID, 0, 0, \
     .plain = PyMonitoring_Fire ## NAME ## Event}
#define EXCEPTION(METHOD, ID, NAME) \
    {"fire_event_" METHOD, PY_MONITORING_EVENT_ ## ID, 1, 1, \
     .plain = PyMonitoring_Fire ## NAME ## Event}
#define VALUE(METHOD, ID, NAME) \
    {"fire_event_" METHOD, PY_MONITORING_EVENT_ ## ID, 1, 0, \
     .value = PyMonitoring_Fire ## NAME ## Event}

/* The number of arguments tells two functions of one event apart. */

static const FireFunction fire_functions[] = {
    PLAIN("py_start", PY_START, PyStart),
    PLAIN("py_resume", PY_RESUME, PyResume),
    VALUE("py_return", PY_RETURN, PyReturn),
    VALUE("py_yield", PY_YIELD, PyYield),
    {"fire_event_call", PY_MONITORING_EVENT_CALL, 2, 0,
     .call = PyMonitoring_FireCallEvent},
    {"fire_event_line", PY_MONITORING_EVENT_LINE, 1, 0,
     .line = PyMonitoring_FireLineEvent},
    VALUE("jump", JUMP, Jump),
    VALUE("branch", BRANCH, Branch),
    VALUE("branch_left", BRANCH_LEFT, BranchLeft),
    VALUE("branch_right", BRANCH_RIGHT, BranchRight),
    VALUE("c_return", C_RETURN, CReturn),
    EXCEPTION("c_raise", C_RAISE, CRaise),
    {"fire_event_call_return", PY_MONITORING_EVENT_C_RETURN, 2, 0,
     .call = PyMonitoring_FireCallReturnEvent},
    {"fire_event_call_raise", PY_MONITORING_EVENT_C_RAISE, 3, 1,
     .call = PyMonitoring_FireCallRaiseEvent},
    EXCEPTION("py_throw", PY_THROW, PyThrow),
    EXCEPTION("raise", RAISE, Raise),
    EXCEPTION("reraise", RERAISE, Reraise),
    EXCEPTION("exception_handled", EXCEPTION_HANDLED, ExceptionHandled),
    EXCEPTION("py_unwind", PY_UNWIND, PyUnwind),
    VALUE("stop_iteration", STOP_ITERATION, StopIteration),
};

/* As a constant: Py_ARRAY_LENGTH() is none in the GNU modes of compilers. */
#define NUM_FUNCTIONS (sizeof(fire_functions) / sizeof(fire_functions[0]))

/* What a function of the API returned (an exception pending, or NULL, was set
   when it was called), as a Python function returns it. */
static PyObject *
checked_result(int result, PyObject *pending)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (result < 0 && exc != NULL) {
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    if (result != 0) {
        PyErr_Format(PyExc_SystemError, "returned %d, exception: %R",
                     result, exc ? exc : Py_None);
    }
    else if (exc != pending) {
        PyErr_Format(PyExc_SystemError, "set exception became %R",
                     exc ? exc : Py_None);
    }
    Py_XDECREF(exc);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static int
set_pending(PyObject **pending)
{
    if (*pending == Py_None) {
        *pending = NULL;
    }
    if (*pending == NULL) {
        return 0;
    }
    if (!PyExceptionInstance_Check(*pending)) {
        PyErr_Format(PyExc_TypeError, "expected an exception, got %R",
                     *pending);
        return -1;
    }
    PyErr_SetRaisedException(Py_NewRef(*pending));
    return 0;
}

/* Fire with args: what comes after codelike and offset. */
static PyObject *
fire(const FireFunction *function, PyMonitoringState *state,
     PyObject *codelike, int32_t offset, PyObject *const *args,
     Py_ssize_t nargs, PyObject *pending)
{
    if (nargs != function->nargs) {
        PyErr_Format(PyExc_TypeError,
                     "%s takes codelike, offset and %zd more, %zd given",
                     function->method, function->nargs, nargs);
        return NULL;
    }
    int lineno = 0;
    if (function->line != NULL) {
        lineno = PyLong_AsInt(args[0]);
        if (lineno == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (function->reports_exception) {
        pending = args[nargs - 1];
    }
    if (set_pending(&pending) < 0) {
        return NULL;
    }
    int result;
    if (function->plain != NULL) {
        result = function->plain(state, codelike, offset);
    }
    else if (function->line != NULL) {
        result = function->line(state, codelike, offset, lineno);
    }
    else if (function->value != NULL) {
        result = function->value(state, codelike, offset, args[0]);
    }
    else {
        result = function->call(state, codelike, offset, args[0], args[1]);
    }
    return checked_result(result, pending);
}

/* self is the index of the function. */
static PyObject *
fire_event(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *kwlist[] = {"state", "pending", NULL};
    const FireFunction *function = &fire_functions[PyLong_AsSize_t(self)];
    PyObject *index = Py_None;
    PyObject *pending = NULL;
    PyObject *empty = PyTuple_New(0);
    int parsed = PyArg_ParseTupleAndKeywords(empty, kwargs, "|$OO", kwlist,
                                             &index, &pending);
    Py_DECREF(empty);
    if (!parsed) {
        return NULL;
    }
    Py_ssize_t nargs = PyTuple_GET_SIZE(args) - 2;
    if (nargs < 0) {
        PyErr_Format(PyExc_TypeError, "%s takes codelike and offset",
                     function->method);
        return NULL;
    }
    CodeLike *codelike = as_codelike(PyTuple_GET_ITEM(args, 0));
    if (codelike == NULL) {
        return NULL;
    }
    int offset = PyLong_AsInt(PyTuple_GET_ITEM(args, 1));
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t i = 0 <= offset && offset < codelike->num_states ? offset : 0;
    if (index != Py_None) {
        i = PyLong_AsSsize_t(index);
        if (i == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (i < 0 || i >= codelike->num_states) {
        PyErr_Format(PyExc_IndexError, "state %zd of %zd", i,
                     codelike->num_states);
        return NULL;
    }
    return fire(function, &codelike->states[i], (PyObject *)codelike, offset,
                &PyTuple_GET_ITEM(args, 2), nargs, pending);
}

#define MAX_ARGS 32

static PyObject *
vectorcall(PyObject *Py_UNUSED(module), PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs < 3) {
        PyErr_SetString(PyExc_TypeError, "monitoring_vectorcall takes "
                        "codelike, offset and callable");
        return NULL;
    }
    CodeLike *codelike = as_codelike(args[0]);
    if (codelike == NULL) {
        return NULL;
    }
    if (codelike->num_states < 3) {
        PyErr_Format(PyExc_IndexError, "%zd of 3 states",
                     codelike->num_states);
        return NULL;
    }
    int offset = PyLong_AsInt(args[1]);
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    /* The arguments of the call, and before them the place that the callable
       may use. */
    PyObject *stack[MAX_ARGS];
    nargs -= 3;
    Py_ssize_t total = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    if (total >= MAX_ARGS) {
        PyErr_Format(PyExc_ValueError, "%zd arguments", total);
        return NULL;
    }
    stack[0] = NULL;
    for (Py_ssize_t i = 0; i < total; i++) {
        stack[i + 1] = args[i + 3];
    }
    PyMonitoringState *states = codelike->states;
    return PyMonitoring_Vectorcall(
        &states[0], &states[1], &states[2], (PyObject *)codelike, offset,
        args[2], stack + 1, (size_t)nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
        kwnames);
}

/* ------ Scopes ------ */

/* Write the events, ints that a uint8_t can hold, to event_types. */
static int
get_event_types(PyObject *const *events, Py_ssize_t length,
                uint8_t *event_types)
{
    for (Py_ssize_t i = 0; i < length; i++) {
        unsigned long event = PyLong_AsUnsignedLong(events[i]);
        if (event == (unsigned long)-1 && PyErr_Occurred()) {
            return -1;
        }
        if (event > UINT8_MAX) {
            PyErr_Format(PyExc_OverflowError, "event %lu", event);
            return -1;
        }
        event_types[i] = (uint8_t)event;
    }
    return 0;
}

#define MAX_EVENTS 256

static int
parse_pending(PyObject *kwargs, PyObject **pending)
{
    static char *kwlist[] = {"pending", NULL};
    PyObject *empty = PyTuple_New(0);
    int parsed = PyArg_ParseTupleAndKeywords(empty, kwargs, "|$O", kwlist,
                                             pending);
    Py_DECREF(empty);
    return parsed ? set_pending(pending) : -1;
}

static PyObject *
enter_scope(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    Py_ssize_t length = PyTuple_GET_SIZE(args) - 1;
    if (length < 0) {
        PyErr_SetString(PyExc_TypeError, "enter_scope takes a code-like");
        return NULL;
    }
    CodeLike *codelike = as_codelike(PyTuple_GET_ITEM(args, 0));
    if (codelike == NULL) {
        return NULL;
    }
    if (length > codelike->num_states || length > MAX_EVENTS) {
        PyErr_Format(PyExc_ValueError, "%zd events, %zd states", length,
                     codelike->num_states);
        return NULL;
    }
    uint8_t event_types[MAX_EVENTS];
    if (get_event_types(&PyTuple_GET_ITEM(args, 1), length,
                        event_types) < 0)
    {
        return NULL;
    }
    PyObject *pending = NULL;
    if (parse_pending(kwargs, &pending) < 0) {
        return NULL;
    }
    int result = PyMonitoring_EnterScope(codelike->states, &codelike->version,
                                         event_types, length);
    return checked_result(result, pending);
}

static PyObject *
exit_scope(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    PyObject *pending = NULL;
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_SetString(PyExc_TypeError, "exit_scope takes no argument");
        return NULL;
    }
    if (parse_pending(kwargs, &pending) < 0) {
        return NULL;
    }
    return checked_result(PyMonitoring_ExitScope(), pending);
}

/* ------ Frames ------ */

static PyObject *
none_to_null(PyObject *obj)
{
    return obj == Py_None ? NULL : obj;
}

static PyObject *
set_frame_namespaces(PyObject *Py_UNUSED(module), PyObject *args,
                     PyObject *kwargs)
{
    static char *kwlist[] = {
        "codelike", "globals", "locals", "state", "pending", NULL
    };
    PyObject *op, *globals, *locals;
    Py_ssize_t i = 0;
    PyObject *pending = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$nO", kwlist, &op,
                                     &globals, &locals, &i, &pending))
    {
        return NULL;
    }
    CodeLike *codelike = as_codelike(op);
    if (codelike == NULL) {
        return NULL;
    }
    if (i < 0 || i >= codelike->num_states) {
        PyErr_Format(PyExc_IndexError, "state %zd of %zd", i,
                     codelike->num_states);
        return NULL;
    }
    if (set_pending(&pending) < 0) {
        return NULL;
    }
    int result = PyMonitoring_SetFrameNamespaces(
        &codelike->states[i], op, none_to_null(globals), none_to_null(locals));
    return checked_result(result, pending);
}

static PyObject *
add_traceback(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *exc, *codelike;
    int offset, lineno;
    if (!PyArg_ParseTuple(args, "OOii", &exc, &codelike, &offset, &lineno)
        || set_pending(&exc) < 0)
    {
        return NULL;
    }
    int result = PyMonitoring_AddTraceback(codelike, offset, lineno);
    if (exc == NULL) {
        return result == -1 && PyErr_Occurred() ? NULL
                                                : PyLong_FromLong(result);
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (raised != exc) {
        PyErr_Format(PyExc_SystemError, "set exception became %R",
                     raised ? raised : Py_None);
    }
    Py_XDECREF(raised);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(result);
}

static PyObject *
record_frame(PyObject *list, PyObject *Py_UNUSED(args))
{
    PyObject *get_frame = PySys_GetObject("_getframe");
    if (get_frame == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "lost sys._getframe");
        return NULL;
    }
    PyObject *frame = PyObject_CallNoArgs(get_frame);
    if (frame == NULL) {
        return NULL;
    }
    int err = PyList_Append(list, frame);
    Py_DECREF(frame);
    if (err < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef record_frame_method = {
    "record_frame", record_frame, METH_VARARGS
};

static PyObject *
frame_recorder(PyObject *Py_UNUSED(module), PyObject *list)
{
    if (!PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError, "expected a list, got %R", list);
        return NULL;
    }
    return PyCFunction_New(&record_frame_method, list);
}

static PyMethodDef methods[] = {
    {"monitoring_add_traceback", add_traceback, METH_VARARGS,
     PyDoc_STR("(exc, codelike, offset, lineno)")},
    {"monitoring_enter_scope", _PyCFunction_CAST(enter_scope),
     METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("(codelike, *events, pending=None)")},
    {"monitoring_exit_scope", _PyCFunction_CAST(exit_scope),
     METH_VARARGS | METH_KEYWORDS, PyDoc_STR("(*, pending=None)")},
    {"monitoring_frame_recorder", frame_recorder, METH_O,
     PyDoc_STR("(list): return a callback that appends sys._getframe()")},
    {"monitoring_set_frame_namespaces",
     _PyCFunction_CAST(set_frame_namespaces), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("(codelike, globals, locals, *, state=0, pending=None)")},
    {"monitoring_vectorcall", _PyCFunction_CAST(vectorcall),
     METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("(codelike, offset, callable, *args, **kwargs)")},
    {NULL},
};

/* ------ Producer ------ */

/* Producer(codelike, events, actions, failed=(), *, fresh=True, exits=True,
   handles=False): a function of foreign code.  A call enters a scope of the
   event types, does the actions and, if exits is true, exits.
   An action is a tuple (event, offset, ...), to fire; a tuple (None, offset,
   callable, ...), for PyMonitoring_Vectorcall(); a tuple ("namespaces",
   globals, locals); a callable, to call; or None, to enter the scope again.
   When one fails, those of `failed` are done, in which the exception that is
   set stays so: exception events report it, and ("traceback", offset, lineno)
   adds to its traceback.  If handles is true, it is then cleared.
   Any object can be the code-like.  If fresh is true the states are on the C
   stack, not initialized, with version 0 at each call; otherwise they live as
   long as the producer. */
typedef struct {
    PyObject_HEAD
    PyObject *codelike;
    PyObject *actions;              // tuples
    PyObject *failed;
    int fresh;
    int exits;
    int handles;
    Py_ssize_t length;
    uint8_t event_types[MAX_EVENTS];
    PyMonitoringState states[MAX_EVENTS];
    uint64_t version;
} Producer;

static PyObject *
producer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *kwlist[] = {
        "codelike", "events", "actions", "failed", "fresh", "exits", "handles",
        NULL
    };
    PyObject *codelike, *events, *actions, *failed = NULL;
    int fresh = 1, exits = 1, handles = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!|O!$ppp", kwlist,
                                     &codelike, &PyTuple_Type, &events,
                                     &PyTuple_Type, &actions, &PyTuple_Type,
                                     &failed, &fresh, &exits, &handles))
    {
        return NULL;
    }
    if (PyTuple_GET_SIZE(events) > MAX_EVENTS) {
        PyErr_Format(PyExc_ValueError, "more than %d events", MAX_EVENTS);
        return NULL;
    }
    Producer *self = (Producer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->codelike = Py_NewRef(codelike);
    self->actions = Py_NewRef(actions);
    self->failed = failed ? Py_NewRef(failed) : PyTuple_New(0);
    self->fresh = fresh;
    self->exits = exits;
    self->handles = handles;
    self->length = PyTuple_GET_SIZE(events);
    if (self->failed == NULL
        || get_event_types(&PyTuple_GET_ITEM(events, 0), self->length,
                           self->event_types) < 0)
    {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
producer_traverse(PyObject *op, visitproc visit, void *arg)
{
    Producer *self = (Producer *)op;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->codelike);
    Py_VISIT(self->actions);
    Py_VISIT(self->failed);
    return 0;
}

static int
producer_clear(PyObject *op)
{
    Producer *self = (Producer *)op;
    Py_CLEAR(self->codelike);
    Py_CLEAR(self->actions);
    Py_CLEAR(self->failed);
    return 0;
}

static void
producer_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    producer_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* Return the state of an event, NULL with an error if there is none. */
static PyMonitoringState *
find_state(Producer *self, PyMonitoringState *states, int event)
{
    for (Py_ssize_t i = 0; i < self->length; i++) {
        if (self->event_types[i] == event) {
            return &states[i];
        }
    }
    PyErr_Format(PyExc_ValueError, "no state of event %d", event);
    return NULL;
}

static PyObject *
producer_fire(Producer *self, PyMonitoringState *states, int event,
              int32_t offset, PyObject *const *args, Py_ssize_t nargs)
{
    PyMonitoringState *state = find_state(self, states, event);
    if (state == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < NUM_FUNCTIONS; i++) {
        if (fire_functions[i].event == event
            && fire_functions[i].nargs == nargs)
        {
            return fire(&fire_functions[i], state, self->codelike, offset,
                        args, nargs, NULL);
        }
    }
    PyErr_Format(PyExc_TypeError, "no function fires event %d with %zd more",
                 event, nargs);
    return NULL;
}

static PyObject *
producer_vectorcall(Producer *self, PyMonitoringState *states, int32_t offset,
                    PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 0) {
        PyErr_SetString(PyExc_TypeError, "nothing to call");
        return NULL;
    }
    PyMonitoringState *call =
        find_state(self, states, PY_MONITORING_EVENT_CALL);
    PyMonitoringState *c_return =
        find_state(self, states, PY_MONITORING_EVENT_C_RETURN);
    PyMonitoringState *c_raise =
        find_state(self, states, PY_MONITORING_EVENT_C_RAISE);
    if (call == NULL || c_return == NULL || c_raise == NULL) {
        return NULL;
    }
    return PyMonitoring_Vectorcall(
        call, c_return, c_raise, self->codelike, offset, args[0],
        nargs > 1 ? args + 1 : NULL, nargs - 1, NULL);
}

/* Return whether the action is a tuple of that name, with two items more. */
static int
is_named(PyObject *action, const char *name)
{
    return PyTuple_Check(action) && PyTuple_GET_SIZE(action) == 3
        && PyUnicode_Check(PyTuple_GET_ITEM(action, 0))
        && !PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(action, 0),
                                             name);
}

static PyObject *
producer_do(Producer *self, PyMonitoringState *states, PyObject *action)
{
    if (PyCallable_Check(action)) {
        return PyObject_CallNoArgs(action);
    }
    if (is_named(action, "namespaces")) {
        int err = self->length == 0 ? 0 : PyMonitoring_SetFrameNamespaces(
            &states[0], self->codelike,
            none_to_null(PyTuple_GET_ITEM(action, 1)),
            none_to_null(PyTuple_GET_ITEM(action, 2)));
        return err < 0 ? NULL : Py_NewRef(Py_None);
    }
    Py_ssize_t nargs = PyTuple_Check(action) ? PyTuple_GET_SIZE(action) : 0;
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "%R is no action", action);
        return NULL;
    }
    int offset = PyLong_AsInt(PyTuple_GET_ITEM(action, 1));
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *const *args = &PyTuple_GET_ITEM(action, 2);
    if (PyTuple_GET_ITEM(action, 0) == Py_None) {
        return producer_vectorcall(self, states, offset, args, nargs - 2);
    }
    int event = PyLong_AsInt(PyTuple_GET_ITEM(action, 0));
    if (event == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return producer_fire(self, states, event, offset, args, nargs - 2);
}

/* Do an action while an exception is set.  What it raises takes its place. */
static void
producer_do_failed(Producer *self, PyMonitoringState *states, PyObject *action)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *res = NULL;
    int offset = 0, lineno = 0;
    if (is_named(action, "traceback")) {
        offset = PyLong_AsInt(PyTuple_GET_ITEM(action, 1));
        lineno = PyLong_AsInt(PyTuple_GET_ITEM(action, 2));
        if (!PyErr_Occurred()) {
            PyErr_SetRaisedException(exc);
            (void)PyMonitoring_AddTraceback(self->codelike, offset, lineno);
            return;
        }
    }
    else if (PyTuple_Check(action) && PyTuple_GET_SIZE(action) == 2) {
        PyObject *with_exception = PyTuple_Pack(
            3, PyTuple_GET_ITEM(action, 0), PyTuple_GET_ITEM(action, 1), exc);
        if (with_exception != NULL) {
            res = producer_do(self, states, with_exception);
            Py_DECREF(with_exception);
        }
    }
    else {
        res = producer_do(self, states, action);
    }
    if (res != NULL) {
        Py_DECREF(res);
        PyErr_SetRaisedException(exc);
    }
    else {
        Py_DECREF(exc);
    }
}

static PyObject *
producer_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    Producer *self = (Producer *)op;
    if (PyTuple_GET_SIZE(args) > 0
        || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0))
    {
        PyErr_SetString(PyExc_TypeError, "a producer takes no argument");
        return NULL;
    }
    PyMonitoringState stack_states[MAX_EVENTS];
    uint64_t stack_version = 0;
    PyMonitoringState *states = self->fresh ? stack_states : self->states;
    uint64_t *version = self->fresh ? &stack_version : &self->version;
    if (PyMonitoring_EnterScope(states, version, self->event_types,
                                self->length) < 0)
    {
        return NULL;
    }
    int err = 0;
    for (Py_ssize_t i = 0;
         err == 0 && i < PyTuple_GET_SIZE(self->actions); i++)
    {
        PyObject *action = PyTuple_GET_ITEM(self->actions, i);
        if (action == Py_None) {
            err = PyMonitoring_EnterScope(states, version, self->event_types,
                                          self->length);
        }
        else {
            PyObject *res = producer_do(self, states, action);
            err = res ? 0 : -1;
            Py_XDECREF(res);
        }
    }
    for (Py_ssize_t i = 0;
         err < 0 && i < PyTuple_GET_SIZE(self->failed); i++)
    {
        PyObject *action = PyTuple_GET_ITEM(self->failed, i);
        if (action == Py_None) {
            (void)PyMonitoring_EnterScope(states, version, self->event_types,
                                          self->length);
        }
        else {
            producer_do_failed(self, states, action);
        }
    }
    if (err < 0 && self->handles) {
        PyErr_Clear();
        err = 0;
    }
    if (self->exits && PyMonitoring_ExitScope() < 0) {
        err = -1;
    }
    if (err < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyType_Slot producer_slots[] = {
    {Py_tp_new, producer_new},
    {Py_tp_traverse, producer_traverse},
    {Py_tp_clear, producer_clear},
    {Py_tp_dealloc, producer_dealloc},
    {Py_tp_call, producer_call},
    {0, NULL},
};

static PyType_Spec producer_spec = {
    .name = "_testcapi.Producer",
    .basicsize = sizeof(Producer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = producer_slots,
};

/* ------ Module ------ */

static PyMethodDef fire_methods[NUM_FUNCTIONS];

static int
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL) {
        return -1;
    }
    int err = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return err;
}

static int
add_fire_function(PyObject *module, size_t i)
{
    fire_methods[i] = (PyMethodDef){
        fire_functions[i].method, _PyCFunction_CAST(fire_event),
        METH_VARARGS | METH_KEYWORDS,
    };
    PyObject *self = PyLong_FromSize_t(i);
    if (self == NULL) {
        return -1;
    }
    PyObject *function = PyCFunction_New(&fire_methods[i], self);
    Py_DECREF(self);
    return PyModule_Add(module, fire_functions[i].method, function);
}

int
_PyTestCapi_Init_Monitoring(PyObject *m)
{
    if (add_type(m, &codelike_spec) < 0
        || add_type(m, &weak_codelike_spec) < 0
        || add_type(m, &producer_spec) < 0)
    {
        return -1;
    }
    for (size_t i = 0; i < NUM_FUNCTIONS; i++) {
        if (add_fire_function(m, i) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(m, methods);
}
