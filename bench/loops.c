/* The loops that this room counts and times, as an extension module.

   Each loop has a twin that does the same without the API, over which its cost
   is given: "nothing" and "bare_..." below.  Nothing here knows more of the
   interpreter than its public headers say, so one binary runs on stock and on
   patched interpreters. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>        /* PyFrame_New() */
#include <malloc.h>
#include <time.h>

#define SAMPLE 1024         /* locations that a loop goes round; 2**n */
#define MAX_TOOLS 6
#define MAX_LENGTH 16

/* The work of the code that is monitored: the compiler must have its operands
   at hand, and cannot keep the fields of a state from one event to the next,
   as it could not over real work. */
#define WORK(A, B, C)                                                       \
    __asm__ volatile("" : : "r"(A), "r"(B), "r"(C) : "memory")

typedef struct {
    PyObject *codelikes[SAMPLE];
    int numbers[SAMPLE];
    PyObject *given[SAMPLE];            /* the numbers as objects */
    PyObject *value;                    /* what events report or loops call */
    /* What the bare loops call, for each tool.  The workload's PY_RETURN has
       callbacks of its own. */
    PyObject *callbacks[MAX_TOOLS];
    PyObject *return_callbacks[MAX_TOOLS];
    Py_ssize_t n_tools;
    PyObject *arguments;                /* a tuple for each round of "call" */
    PyMonitoringState states[MAX_LENGTH];
    const uint8_t *types;
    Py_ssize_t length;
    uint64_t version;
    uint64_t stale;                     /* a version of the past, or 0 */
} job;

typedef int (*loop)(job *j, Py_ssize_t n);

static PyObject *disable_mark;          /* sys.monitoring.DISABLE */
static PyObject *module_dict;

/* ------ What stock's header lacks ------ */

#ifndef _PyMonitoring_ANY_LISTENS
static inline int
PyMonitoring_FireCallReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *callable,
                                 PyObject *Py_UNUSED(arg0))
{
    return PyMonitoring_FireCReturnEvent(state, codelike, offset, callable);
}

static inline int
PyMonitoring_FireCallRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *Py_UNUSED(callable),
                                PyObject *Py_UNUSED(arg0))
{
    return PyMonitoring_FireCRaiseEvent(state, codelike, offset);
}

/* As far as the loops need it: no Python function is called. */
static inline PyObject *
PyMonitoring_Vectorcall(PyMonitoringState *call_state,
                        PyMonitoringState *c_return_state,
                        PyMonitoringState *c_raise_state, PyObject *codelike,
                        int32_t offset, PyObject *callable,
                        PyObject *const *args, size_t nargsf,
                        PyObject *kwnames)
{
    if (PyMonitoring_FireCallEvent(call_state, codelike, offset, callable,
                                   args[0]) < 0)
    {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(callable, args, nargsf, kwnames);
    if (result == NULL) {
        (void)PyMonitoring_FireCRaiseEvent(c_raise_state, codelike, offset);
    }
    else if (PyMonitoring_FireCReturnEvent(c_return_state, codelike, offset,
                                           result) < 0)
    {
        Py_CLEAR(result);
    }
    return result;
}

/* What producers do without it, with a code object at hand for each line. */
static inline int
PyMonitoring_AddTraceback(PyObject *codelike, int32_t Py_UNUSED(offset),
                          int Py_UNUSED(lineno))
{
    PyFrameObject *frame = PyFrame_New(
        PyThreadState_Get(), (PyCodeObject *)codelike, module_dict, NULL);
    if (frame == NULL) {
        return -1;
    }
    int err = PyTraceBack_Here(frame);
    Py_DECREF(frame);
    return err;
}
#endif

/* ------ One event ------ */

#define FIRE_LOOP(NAME, ...)                                                \
    static int                                                              \
    fire_##NAME(job *j, Py_ssize_t n)                                       \
    {                                                                       \
        PyMonitoringState *state = &j->states[0];                           \
        PyObject *value = j->value;                                         \
        for (Py_ssize_t i = 0; i < n; i++) {                                \
            PyObject *codelike = j->codelikes[i & (SAMPLE - 1)];            \
            int number = j->numbers[i & (SAMPLE - 1)];                      \
            WORK(codelike, number, value);                                  \
            if (PyMonitoring_Fire##NAME##Event(state, codelike,             \
                                               __VA_ARGS__) < 0)            \
            {                                                               \
                return -1;                                                  \
            }                                                               \
        }                                                                   \
        return 0;                                                           \
    }

FIRE_LOOP(PyStart, number)
FIRE_LOOP(PyResume, number)
FIRE_LOOP(PyReturn, number, value)
FIRE_LOOP(PyYield, number, value)
FIRE_LOOP(Call, number, value, value)
FIRE_LOOP(Line, number, number)
FIRE_LOOP(Jump, number, value)
FIRE_LOOP(Branch, number, value)
FIRE_LOOP(CallReturn, number, value, value)
FIRE_LOOP(PyThrow, number)
FIRE_LOOP(Raise, number)
FIRE_LOOP(Reraise, number)
FIRE_LOOP(ExceptionHandled, number)
FIRE_LOOP(CallRaise, number, value, value)
FIRE_LOOP(PyUnwind, number)
FIRE_LOOP(StopIteration, number, value)

static int
nothing(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        WORK(j->codelikes[i & (SAMPLE - 1)], j->numbers[i & (SAMPLE - 1)],
             j->value);
    }
    return 0;
}

/* Call callbacks as directly as C can.  args[0] is free. */
static inline Py_ALWAYS_INLINE int
call_all(PyObject **callbacks, Py_ssize_t n_tools, PyObject **args,
         size_t nargs)
{
    for (Py_ssize_t i = 0; i < n_tools; i++) {
        PyObject *result = PyObject_Vectorcall(
            callbacks[i], args + 1,
            nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    return 0;
}

/* The twins of events with callbacks have the numbers at hand as objects: to
   make them is the API's work.  So stock 3.13.5 costs about 135 instructions
   over a bare vectorcall in the workload, which is what the goals set out
   from (134); over a twin that made the numbers it would be 108. */
#define BARE_LOOP(NARGS)                                                    \
    static int                                                              \
    bare_##NARGS(job *j, Py_ssize_t n)                                      \
    {                                                                       \
        PyObject *value = j->value;                                         \
        for (Py_ssize_t i = 0; i < n; i++) {                                \
            PyObject *args[] = {                                            \
                NULL, j->codelikes[i & (SAMPLE - 1)],                       \
                j->given[i & (SAMPLE - 1)], value, value,                   \
            };                                                              \
            WORK(args, i, value);                                           \
            if (call_all(j->callbacks, j->n_tools, args, NARGS) < 0) {      \
                return -1;                                                  \
            }                                                               \
        }                                                                   \
        return 0;                                                           \
    }

BARE_LOOP(2)
BARE_LOOP(3)
BARE_LOOP(4)

/* ------ A call ------ */

#define CALL_LOOP(NAME, CALL, N_EVENTS)                                     \
    static int                                                              \
    NAME(job *j, Py_ssize_t n)                                              \
    {                                                                       \
        PyMonitoringState *state = &j->states[0];                           \
        PyObject *value = j->value;                                         \
        for (Py_ssize_t i = 0; i < n; i++) {                                \
            PyObject *codelike = j->codelikes[i & (SAMPLE - 1)];            \
            int number = j->numbers[i & (SAMPLE - 1)];                      \
            PyObject *args[] = {                                            \
                NULL, codelike, j->given[i & (SAMPLE - 1)], value, value,   \
            };                                                              \
            WORK(args, number, state);                                      \
            PyObject *result = CALL;                                        \
            if (result == NULL) {                                           \
                return -1;                                                  \
            }                                                               \
            Py_DECREF(result);                                              \
            for (int event = 0; event < N_EVENTS; event++) {                \
                if (call_all(j->callbacks, j->n_tools, args, 4) < 0) {      \
                    return -1;                                              \
                }                                                           \
            }                                                               \
        }                                                                   \
        return 0;                                                           \
    }

#define ONE_ARGUMENT args + 4, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL

CALL_LOOP(fire_Vectorcall,
          PyMonitoring_Vectorcall(state, state, state, codelike, number, value,
                                  ONE_ARGUMENT), 0)
CALL_LOOP(bare_Vectorcall, PyObject_Vectorcall(value, ONE_ARGUMENT), 0)
/* With the callbacks of CALL and C_RETURN. */
CALL_LOOP(bare_Vectorcall_4, PyObject_Vectorcall(value, ONE_ARGUMENT), 2)

/* ------ Scopes ------ */

static int
scope(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        WORK(j, n, j->states);
        if (PyMonitoring_EnterScope(j->states, &j->version, j->types,
                                    j->length) < 0)
        {
            return -1;
        }
        WORK(j, n, j->states);
        PyMonitoring_ExitScope();
    }
    return 0;
}

static int
bare_scope(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        WORK(j, n, j->states);
        WORK(j, n, j->states);
    }
    return 0;
}

/* As if something changed since the states were written. */
static int
stale_scope(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        j->version = j->stale;
        WORK(j, n, j->states);
        if (PyMonitoring_EnterScope(j->states, &j->version, j->types,
                                    j->length) < 0)
        {
            return -1;
        }
        WORK(j, n, j->states);
        PyMonitoring_ExitScope();
    }
    return 0;
}

static int
bare_stale_scope(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        j->version = j->stale;
        WORK(j, n, j->states);
        WORK(j, n, j->states);
    }
    return 0;
}

/* ------ The workload: PY_START, 8 LINE, PY_RETURN ------ */

#define LINES(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

#define FIRE_LINE(K)                                                        \
    WORK(codelike, first, states);                                          \
    if (PyMonitoring_FireLineEvent(&states[PY_MONITORING_EVENT_LINE],       \
                                   codelike, first + K, first + K) < 0)     \
    {                                                                       \
        return -1;                                                          \
    }

/* As generated code has them.  scope_types[i] is i for the three events of the
   workload; stock 3.13 reads past an array for the last two of seventeen. */
static const uint8_t scope_types[MAX_LENGTH] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0,
};

static inline Py_ALWAYS_INLINE int
run_scope(PyMonitoringState *states, uint64_t *version, Py_ssize_t length,
          PyObject *codelike, int first)
{
    if (PyMonitoring_EnterScope(states, version, scope_types, length) < 0) {
        return -1;
    }
    WORK(codelike, first, states);
    if (PyMonitoring_FirePyStartEvent(&states[PY_MONITORING_EVENT_PY_START],
                                      codelike, first) < 0)
    {
        return -1;
    }
    LINES(FIRE_LINE)
    WORK(codelike, first, states);
    if (PyMonitoring_FirePyReturnEvent(&states[PY_MONITORING_EVENT_PY_RETURN],
                                       codelike, first + 9, Py_None) < 0)
    {
        return -1;
    }
    return PyMonitoring_ExitScope();
}

static int
workload(job *j, Py_ssize_t n)
{
    PyObject *codelike = j->codelikes[0];
    int first = j->numbers[0];
    for (Py_ssize_t i = 0; i < n; i++) {
        if (run_scope(j->states, &j->version, MAX_LENGTH, codelike,
                      first) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* As generated code has it: states on the C stack, new in each scope. */
static int
stack_workload(job *j, Py_ssize_t n)
{
    PyObject *codelike = j->codelikes[0];
    int first = j->numbers[0];
    for (Py_ssize_t i = 0; i < n; i++) {
        PyMonitoringState states[7];
        uint64_t version = 0;
        if (run_scope(states, &version, 7, codelike, first) < 0) {
            return -1;
        }
    }
    return 0;
}

#define WORK_LINE(K) WORK(codelike, first, j->states);

static int
nothing_workload(job *j, Py_ssize_t n)
{
    PyObject *codelike = j->codelikes[0];
    int first = j->numbers[0];
    for (Py_ssize_t i = 0; i < n; i++) {
        WORK(codelike, first, j->states);
        LINES(WORK_LINE)
        WORK(codelike, first, j->states);
    }
    return 0;
}

static inline Py_ALWAYS_INLINE int
call_workload(job *j, Py_ssize_t n, Py_ssize_t n_tools)
{
    PyObject *args[] = {NULL, j->codelikes[0], NULL, Py_None};
    for (Py_ssize_t i = 0; i < n; i++) {
        for (int k = 0; k < 9; k++) {
            args[2] = j->given[k];
            WORK(i, k, args);
            if (call_all(j->callbacks, n_tools, args, 2) < 0) {
                return -1;
            }
        }
        args[2] = j->given[9];
        WORK(i, n, args);
        if (call_all(j->return_callbacks, n_tools, args, 3) < 0) {
            return -1;
        }
    }
    return 0;
}

/* To count the tools would cost as much as some of what is measured. */
static int
bare_workload(job *j, Py_ssize_t n)
{
    return call_workload(j, n, 1);
}

static int
bare_workload_2(job *j, Py_ssize_t n)
{
    return call_workload(j, n, 2);
}

/* ------ Tracebacks ------ */

#define EXCEPTION_LOOP(NAME, ADD)                                           \
    static int                                                              \
    NAME(job *j, Py_ssize_t n)                                              \
    {                                                                       \
        for (Py_ssize_t i = 0; i < n; i++) {                                \
            PyObject *codelike = j->codelikes[i & (SAMPLE - 1)];            \
            int number = j->numbers[i & (SAMPLE - 1)];                      \
            PyErr_SetNone(PyExc_ValueError);                                \
            WORK(codelike, number, j);                                      \
            if (ADD < 0) {                                                  \
                return -1;                                                  \
            }                                                               \
            PyErr_Clear();                                                  \
        }                                                                   \
        return 0;                                                           \
    }

EXCEPTION_LOOP(add_traceback, PyMonitoring_AddTraceback(codelike, number, 0))
EXCEPTION_LOOP(bare_exception, 0)

/* ------ Any callable ------ */

static int
call(job *j, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *result = PyObject_Call(
            j->value, PyTuple_GET_ITEM(j->arguments, i), NULL);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    return 0;
}

/* ------ The module ------ */

static const struct {
    const char *name;
    loop run;
} loops[] = {
#define FIRE(NAME) {"fire_" #NAME, fire_##NAME}
    FIRE(PyStart), FIRE(PyResume), FIRE(PyReturn), FIRE(PyYield), FIRE(Call),
    FIRE(Line), FIRE(Jump), FIRE(Branch), FIRE(CallReturn), FIRE(PyThrow),
    FIRE(Raise), FIRE(Reraise), FIRE(ExceptionHandled), FIRE(CallRaise),
    FIRE(PyUnwind), FIRE(StopIteration), FIRE(Vectorcall),
#undef FIRE
    {"nothing", nothing},
    {"bare_2", bare_2},
    {"bare_3", bare_3},
    {"bare_4", bare_4},
    {"bare_Vectorcall", bare_Vectorcall},
    {"bare_Vectorcall_4", bare_Vectorcall_4},
    {"scope", scope},
    {"bare_scope", bare_scope},
    {"stale_scope", stale_scope},
    {"bare_stale_scope", bare_stale_scope},
    {"workload", workload},
    {"stack_workload", stack_workload},
    {"nothing_workload", nothing_workload},
    {"bare_workload", bare_workload},
    {"bare_workload_2", bare_workload_2},
    {"add_traceback", add_traceback},
    {"bare_exception", bare_exception},
    {"call", call},
};

/* Callgrind counts what happens in here, and nothing else. */
__attribute__((noinline, visibility("default"))) int
benchmark_measured(loop run, job *j, Py_ssize_t n)
{
    int err = run(j, n);
    __asm__ volatile("" : : : "memory");        /* no tail call */
    return err;
}

static loop
find_loop(const char *name)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(loops); i++) {
        if (strcmp(loops[i].name, name) == 0) {
            return loops[i].run;
        }
    }
    PyErr_Format(PyExc_ValueError, "no loop is called %s", name);
    return NULL;
}

static int
read_locations(job *j, PyObject *locations)
{
    Py_ssize_t length = PyList_GET_SIZE(locations);
    if (length == 0) {
        PyErr_SetString(PyExc_ValueError, "no locations");
        return -1;
    }
    for (Py_ssize_t i = 0; i < SAMPLE; i++) {
        PyObject *location = PyList_GET_ITEM(locations, i % length);
        if (!PyArg_ParseTuple(location, "Oi", &j->codelikes[i],
                              &j->numbers[i]))
        {
            return -1;
        }
        j->given[i] = PyTuple_GET_ITEM(location, 1);
    }
    return 0;
}

static int64_t
nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What stock leaves undefined is then the same in every run. */
__attribute__((noinline)) static void
clear_stack(void)
{
    char memory[4096];
    memset(memory, 0, sizeof(memory));
    WORK(memory, 0, 0);
}

/* Take a callback for each tool from a tuple. */
static int
read_callbacks(PyObject **callbacks, PyObject *given)
{
    if (PyTuple_GET_SIZE(given) > MAX_TOOLS) {
        PyErr_SetString(PyExc_ValueError, "too many callbacks");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); i++) {
        callbacks[i] = PyTuple_GET_ITEM(given, i);
    }
    return 0;
}

PyDoc_STRVAR(run_doc,
"run(loop, n, locations, types, value, callbacks, return_callbacks,\n"
"    arguments, stale, error)\n"
"--\n\n"
"Run a loop n times in a scope of its own; return the nanoseconds it took.\n"
"\n"
"locations is a list of (code-like, number), types the bytes of the scope's\n"
"event types, callbacks what bare loops call for each tool, return_callbacks\n"
"the same for the workload's PY_RETURN, arguments a tuple of n tuples for\n"
"\"call\", error an exception that is set meanwhile, or None.");

static PyObject *
run(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name;
    Py_ssize_t n, n_types;
    PyObject *locations, *callbacks, *return_callbacks, *error;
    const char *types;
    unsigned long long stale;
    job j = {0};
    if (!PyArg_ParseTuple(args, "snO!y#OO!O!O!KO:run", &name, &n,
                          &PyList_Type, &locations, &types, &n_types,
                          &j.value, &PyTuple_Type, &callbacks, &PyTuple_Type,
                          &return_callbacks, &PyTuple_Type, &j.arguments,
                          &stale, &error))
    {
        return NULL;
    }
    loop run_loop = find_loop(name);
    if (run_loop == NULL || read_locations(&j, locations) < 0
        || read_callbacks(j.callbacks, callbacks) < 0
        || read_callbacks(j.return_callbacks, return_callbacks) < 0)
    {
        return NULL;
    }
    if (n_types > MAX_LENGTH
        || (run_loop == call && PyTuple_GET_SIZE(j.arguments) != n))
    {
        PyErr_SetString(PyExc_ValueError, "wrong number of types or calls");
        return NULL;
    }
    j.n_tools = PyTuple_GET_SIZE(callbacks);
    j.types = (const uint8_t *)types;
    j.length = n_types;
    j.stale = stale;
    if (PyMonitoring_EnterScope(j.states, &j.version, j.types,
                                j.length) < 0)
    {
        return NULL;
    }
    if (error != Py_None) {
        PyErr_SetRaisedException(Py_NewRef(error));
    }
    clear_stack();
    int64_t start = nanoseconds();
    int err = benchmark_measured(run_loop, &j, n);
    int64_t end = nanoseconds();
    if (err == 0) {
        PyErr_Clear();
    }
    PyMonitoring_ExitScope();
    return err < 0 ? NULL : PyLong_FromLongLong(end - start);
}

PyDoc_STRVAR(version_doc,
"version()\n--\n\nReturn the version of a scope that is entered now.");

static PyObject *
version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    static const uint8_t types[] = {PY_MONITORING_EVENT_LINE};
    PyMonitoringState state;
    uint64_t entered = 0;
    if (PyMonitoring_EnterScope(&state, &entered, types, 1) < 0) {
        return NULL;
    }
    PyMonitoring_ExitScope();
    return PyLong_FromUnsignedLongLong(entered);
}

PyDoc_STRVAR(fire_lines_doc,
"fire_lines(codelikes, n)\n--\n\n"
"Fire LINE for the lines 0 to n - 1 of each code-like of a list.");

static PyObject *
fire_lines(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const uint8_t types[] = {PY_MONITORING_EVENT_LINE};
    PyObject *codelikes;
    int n;
    PyMonitoringState state;
    uint64_t version = 0;
    if (!PyArg_ParseTuple(args, "O!i:fire_lines", &PyList_Type, &codelikes,
                          &n)
        || PyMonitoring_EnterScope(&state, &version, types, 1) < 0)
    {
        return NULL;
    }
    int err = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(codelikes); i++) {
        PyObject *codelike = PyList_GET_ITEM(codelikes, i);
        for (int line = 0; err == 0 && line < n; line++) {
            err = PyMonitoring_FireLineEvent(&state, codelike, line, line);
        }
    }
    PyMonitoring_ExitScope();
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(new_code_doc,
"new_code(n, k)\n--\n\n"
"Return a code object with n locations, k on each line, from line 1 on.\n"
"\n"
"On stock it has no locations.");

static PyObject *
new_code(PyObject *Py_UNUSED(module), PyObject *args)
{
    int n, k;
    if (!PyArg_ParseTuple(args, "ii:new_code", &n, &k)) {
        return NULL;
    }
#ifdef _PyMonitoring_ANY_LISTENS
    PyCodeLocation *locations = PyMem_New(PyCodeLocation, n);
    if (locations == NULL) {
        return PyErr_NoMemory();
    }
    for (int i = 0; i < n; i++) {
        int lineno = 1 + i / k, column = 4 + 8 * (i % k);
        locations[i] = (PyCodeLocation){lineno, lineno, column, column + 6};
    }
    PyObject *name = PyUnicode_FromString("code");
    PyObject *code = name == NULL ? NULL
        : PyCode_NewWithLocations(name, name, NULL, 1, locations, n);
    Py_XDECREF(name);
    PyMem_Free(locations);
    return code;
#else
    return (PyObject *)PyCode_NewEmpty("code", "code", 1);
#endif
}

PyDoc_STRVAR(run_foreign_doc,
"run_foreign(code)\n--\n\n"
"Be foreign code that runs the lines 2 to 9 of new_code(n, 1).");

#define FIRE_FOREIGN_LINE(K)                                                \
    if (PyMonitoring_FireLineEvent(&states[LINE], code, 2 * K, 1 + K) < 0)  \
    {                                                                       \
        return NULL;                                                        \
    }

static PyObject *
run_foreign(PyObject *Py_UNUSED(module), PyObject *code)
{
    enum { START, LINE, RETURN, N_EVENTS };
    static const uint8_t types[N_EVENTS] = {
        PY_MONITORING_EVENT_PY_START, PY_MONITORING_EVENT_LINE,
        PY_MONITORING_EVENT_PY_RETURN,
    };
    PyMonitoringState states[N_EVENTS];
    uint64_t version = 0;
    if (PyMonitoring_EnterScope(states, &version, types, N_EVENTS) < 0
        || PyMonitoring_FirePyStartEvent(&states[START], code, 0) < 0)
    {
        return NULL;
    }
    LINES(FIRE_FOREIGN_LINE)
    if (PyMonitoring_FirePyReturnEvent(&states[RETURN], code, 16,
                                       Py_None) < 0)
    {
        return NULL;
    }
    PyMonitoring_ExitScope();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(malloced_doc,
"malloced()\n--\n\n"
"Return how many bytes malloc has handed out, its own overhead included.");

static PyObject *
malloced(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
#else
    struct mallinfo info = mallinfo();
#endif
    return PyLong_FromSize_t((size_t)info.uordblks + (size_t)info.hblkhd);
}

static PyObject *
ignore(PyObject *Py_UNUSED(module), PyObject *const *Py_UNUSED(args),
       Py_ssize_t Py_UNUSED(nargs))
{
    Py_RETURN_NONE;
}

static PyObject *
return_first(PyObject *Py_UNUSED(module), PyObject *const *args,
             Py_ssize_t Py_UNUSED(nargs))
{
    return Py_NewRef(args[0]);
}

static PyObject *
disable(PyObject *Py_UNUSED(module), PyObject *const *Py_UNUSED(args),
        Py_ssize_t Py_UNUSED(nargs))
{
    return Py_NewRef(disable_mark);
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, run_doc},
    {"version", version, METH_NOARGS, version_doc},
    {"fire_lines", fire_lines, METH_VARARGS, fire_lines_doc},
    {"new_code", new_code, METH_VARARGS, new_code_doc},
    {"run_foreign", run_foreign, METH_O, run_foreign_doc},
    {"malloced", malloced, METH_NOARGS, malloced_doc},
    {"ignore", _PyCFunction_CAST(ignore), METH_FASTCALL,
     "A callback that returns None."},
    {"return_first", _PyCFunction_CAST(return_first), METH_FASTCALL,
     "A callback that returns its first argument."},
    {"disable", _PyCFunction_CAST(disable), METH_FASTCALL,
     "A callback that returns DISABLE."},
    {NULL},
};

static int
prepare(PyObject *module)
{
    module_dict = Py_NewRef(PyModule_GetDict(module));
    if (PyDict_SetItemString(module_dict, "__builtins__",
                             PyEval_GetBuiltins()) < 0)
    {
        return -1;
    }
    PyObject *monitoring = PySys_GetObject("monitoring");
    if (monitoring == NULL) {
        PyErr_SetString(PyExc_ImportError, "no sys.monitoring");
        return -1;
    }
    disable_mark = PyObject_GetAttrString(monitoring, "DISABLE");
    return disable_mark == NULL ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "loops",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_loops(void)
{
    return PyModuleDef_Init(&definition);
}
