/* The C-API by which code that is not bytecode signals events; the contract
   is in Include/cpython/monitoring.h. */

/* ------ Exceptions ------ */

/* Return the exception in the chain of contexts from start whose context is
   exc (NULL: the last one of the chain); NULL if there is none.  Assignments
   to __context__ can make a ring, whose end is where `slow` is overtaken. */
static PyObject *
find_context(PyObject *start, PyObject *exc)
{
    PyObject *slow = start;
    bool odd = false;
    for (PyObject *link = start;;) {
        PyObject *context = ((PyBaseExceptionObject *)link)->context;
        if (context == exc) {
            return link;
        }
        if (context == NULL || context == slow) {
            return NULL;
        }
        link = context;
        if (odd) {
            slow = ((PyBaseExceptionObject *)slow)->context;
        }
        odd = !odd;
    }
}

/* Make the exception that is set carry the pending one: the place in its
   chain of contexts is before what was being handled when pending was set.
   Steals the reference to pending, which may be NULL. */
static Py_NO_INLINE void
chain_pending_exception(PyThreadState *tstate, PyObject *pending)
{
    PyObject *raised = tstate->current_exception;
    assert(raised != NULL);
    if (pending == NULL) {
        return;
    }
    if (raised == pending || find_context(raised, pending) != NULL) {
        Py_DECREF(pending);
        return;
    }
    /* A callback may raise what pending has as a context: cut it out, or the
       chain would become a ring. */
    PyObject *link = find_context(pending, raised);
    if (link != NULL) {
        PyException_SetContext(link, NULL);
    }
    link = raised;
    if (find_context(raised, NULL) != NULL) {
        PyObject *handled = _PyErr_GetTopmostException(tstate)->exc_value;
        PyObject *context;
        while ((context = ((PyBaseExceptionObject *)link)->context) != NULL
               && context != handled
               && find_context(pending, context) == NULL)
        {
            link = context;
        }
    }
    PyException_SetContext(link, pending);
}

/* ------ Which tools there are, and states ------ */

/* The tools that are taken by sys.monitoring.use_tool_id(); the others serve
   sys.setprofile() and sys.settrace(). */
#define USER_TOOLS ((1 << PY_MONITORING_SYS_PROFILE_ID) - 1)
#define LEGACY_TOOLS (0xff & ~USER_TOOLS)

/* In the sets of tools of the events that frames follow, whether or not
   sys.setprofile() does. */
#define KEEPS_FRAMES (1 << PY_MONITORING_SYS_PROFILE_ID)

/* Return whether an activation has ended with an event.  One that fails goes
   on, as in Python code, until it is unwound. */
static inline bool
ends_activation(int event, int err)
{
    return _PyForeignFrames_ENDS(event)
        && (err == 0 || event == PY_MONITORING_EVENT_PY_UNWIND);
}

/* Where activations begin and end must be known before somebody looks; where
   one is when it calls, once somebody did. */
static inline bool
frames_follow(const struct _Py_producers *producers, int event)
{
    return _PyForeignFrames_BEGINS(event) || _PyForeignFrames_ENDS(event)
        || (producers->keeps_frames && (event == PY_MONITORING_EVENT_LINE
                                        || event == PY_MONITORING_EVENT_CALL));
}

/* C_RETURN and C_RAISE are on, local and disabled where CALL is. */
static inline Py_ALWAYS_INLINE int
event_group(int event)
{
    return (1 << event) & C_RETURN_EVENTS ? PY_MONITORING_EVENT_CALL : event;
}

static inline Py_ALWAYS_INLINE int
num_arguments(int event)
{
    switch (event) {
        case PY_MONITORING_EVENT_PY_START:
        case PY_MONITORING_EVENT_PY_RESUME:
        case PY_MONITORING_EVENT_LINE:
            return 2;
        case PY_MONITORING_EVENT_CALL:
        case PY_MONITORING_EVENT_C_RETURN:
        case PY_MONITORING_EVENT_C_RAISE:
            return 4;
        default:
            return 3;
    }
}

static uint8_t
tools_with_callback(PyInterpreterState *interp, int event)
{
    uint8_t tools = 0;
    for (int tool = 0; USER_TOOLS >> tool; tool++) {
        if (interp->monitoring_callables[tool][event] != NULL) {
            tools |= 1 << tool;
        }
    }
    return tools;
}

/* Return the tools that have an event on, or chose local events.  They may be
   called for a local event that they do not have on, if they have a
   callback. */
static uint8_t
tools_in_use(PyInterpreterState *interp)
{
    uint8_t tools = interp->producers.use_local;
    for (int event = 0; event < _PY_MONITORING_UNGROUPED_EVENTS; event++) {
        tools |= interp->monitors.tools[event];
    }
    return tools;
}

/* Return where the callback's vectorcall function is kept, if its type is one
   of which that is known to stay so; otherwise NULL. */
static vectorcallfunc *
find_vectorcall(PyObject *callback)
{
    PyTypeObject *type = Py_TYPE(callback);
    if (type != &PyFunction_Type && type != &PyCFunction_Type
        && type != &PyMethod_Type)
    {
        return NULL;
    }
    vectorcallfunc *place = (vectorcallfunc *)((char *)callback
                                               + type->tp_vectorcall_offset);
    return *place == NULL ? NULL : place;
}

/* One callback is to be called for an event, and that is all there is to it. */
static void
update_only_callback(PyInterpreterState *interp, int event)
{
    struct _Py_event_tools *tools = &interp->producers.events[event];
    int group = event_group(event);
    tools->vectorcall = NULL;
    if (tools->called == 0 || (tools->called & (tools->called - 1)) != 0
        || tools->called > USER_TOOLS || interp->producers.keeps_frames
        || tools->local != 0 || event == PY_MONITORING_EVENT_STOP_ITERATION
        || (PY_MONITORING_IS_INSTRUMENTED_EVENT(group)
            && interp->codelikes.has_disabled[group]))
    {
        return;
    }
    int tool = most_significant_bit(tools->called);
    tools->callback = interp->monitoring_callables[tool][event];
    tools->owner = _Py_codelikes_owner(&interp->codelikes, tool);
    tools->vectorcall = find_vectorcall(tools->callback);
}

/* What states depend on, for the inline functions.  It is never 0, which is
   the version of new states. */
uintptr_t _PyMonitoring_Version = _PyMonitoring_VERSION_STEP;

/* Have all states be written again. */
static void
step_version_unlocked(void)
{
    uintptr_t version = _Py_atomic_load_uintptr_relaxed(&_PyMonitoring_Version);
    version &= ~(uintptr_t)_PyMonitoring_ANY_LISTENS;
    version += _PyMonitoring_VERSION_STEP;
    if (version == 0) {
        version = _PyMonitoring_VERSION_STEP;
    }
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
            if (interp->producers.states[event].active) {
                version |= _PyMonitoring_ANY_LISTENS;
            }
        }
    }
    _Py_atomic_store_uintptr_release(&_PyMonitoring_Version, version);
}

static void
update_producers_unlocked(PyInterpreterState *interp)
{
    struct _Py_producers *producers = &interp->producers;
    bool changed = false;
    uint8_t in_use = tools_in_use(interp);
    if (in_use & LEGACY_TOOLS) {
        producers->keeps_frames = true;
    }
    else if (in_use == 0) {
        producers->keeps_frames = false;
    }
    uint8_t call_callbacks =
        tools_with_callback(interp, PY_MONITORING_EVENT_CALL)
        | tools_with_callback(interp, PY_MONITORING_EVENT_C_RETURN)
        | tools_with_callback(interp, PY_MONITORING_EVENT_C_RAISE);
    for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
        if (event == PY_MONITORING_EVENT_INSTRUCTION) {
            continue;
        }
        struct _Py_event_tools *tools = &producers->events[event];
        int group = event_group(event);
        uint8_t on = interp->monitors.tools[group] & USER_TOOLS;
        uint8_t callbacks = tools_with_callback(interp, event);
        uint8_t local = PY_MONITORING_IS_INSTRUMENTED_EVENT(group)
                        ? in_use & USER_TOOLS & ~on : 0;
        /* What sys.settrace() does for JUMP is about bytecode: a loop's body
           fires LINE. */
        uint8_t legacy = event == PY_MONITORING_EVENT_JUMP
                         ? 0 : interp->monitors.tools[group] & LEGACY_TOOLS;
        uint8_t frames = in_use != 0 && frames_follow(producers, event)
                         ? KEEPS_FRAMES : 0;
        tools->called = ((on | local) & callbacks) | legacy
                        | (producers->keeps_frames ? frames : 0);
        tools->local = local & callbacks;
        tools->legacy = legacy;
        tools->event = event;
        tools->group = group;
        tools->nargs = num_arguments(event);
        update_only_callback(interp, event);
        /* PyMonitoring_Vectorcall() looks at the state of CALL alone. */
        uint8_t active = on | legacy | frames
                         | (local & (event == PY_MONITORING_EVENT_CALL
                                     ? call_callbacks : callbacks));
        changed |= active != producers->states[event].active;
        producers->states[event].active = active;
    }
    if (changed) {
        step_version_unlocked();
    }
}

void
_PyMonitoring_UpdateProducers(PyInterpreterState *interp)
{
    bool kept_frames = interp->producers.keeps_frames;
    /* Interpreters look at each other's states. */
    HEAD_LOCK(&_PyRuntime);
    update_producers_unlocked(interp);
    HEAD_UNLOCK(&_PyRuntime);
    if (kept_frames && !interp->producers.keeps_frames) {
        _PyForeignFrames_DropUnused(interp);
    }
}

/* The header has inline functions for the usual paths. */
#undef PyMonitoring_EnterScope
#undef PyMonitoring_ExitScope

#ifdef Py_GIL_DISABLED
#  ifdef MS_WINDOWS
#    include <windows.h>          // SwitchToThread()
#  elif defined(HAVE_SCHED_H)
#    include <sched.h>            // sched_yield()
#  endif

static void
yield_processor(void)
{
#ifdef MS_WINDOWS
    SwitchToThread();
#elif defined(HAVE_SCHED_H)
    sched_yield();
#endif
}

/* Be the thread that writes the states, unless they are up to date. */
static bool
begin_writing(uint64_t *version, uint64_t now)
{
    for (;;) {
        uint64_t written = _Py_atomic_load_uint64_acquire(version);
        if (written == now) {
            return false;
        }
        if (written == _PyMonitoring_WRITING) {
            yield_processor();
        }
        else if (_Py_atomic_compare_exchange_uint64(version, &written,
                                                    _PyMonitoring_WRITING))
        {
            return true;
        }
    }
}

#  define WRITE_STATE(STATE, VALUE) \
    do { \
        _Py_atomic_store_uint8_relaxed(&(STATE)->active, (VALUE).active); \
        _Py_atomic_store_uint8_relaxed(&(STATE)->opaque, (VALUE).opaque); \
    } while (0)
#  define END_WRITING(PLACE, VERSION) \
    _Py_atomic_store_uint64_release(PLACE, VERSION)
#else
#  define WRITE_STATE(STATE, VALUE) (*(STATE) = (VALUE))
#  define END_WRITING(PLACE, VERSION) (*(PLACE) = (VERSION))

static inline bool
begin_writing(uint64_t *version, uint64_t now)
{
    return *version != now;
}
#endif

/* Write the states up to the end of the array, or to the first event type that
   is none; return how many are left. */
static inline Py_ALWAYS_INLINE Py_ssize_t
write_states(PyMonitoringState *state_array, const uint8_t *event_types,
             Py_ssize_t length, const PyMonitoringState *states)
{
    /* To count up to 0 saves an instruction for each state. */
    state_array += length;
    event_types += length;
    Py_ssize_t i = -length;
    for (; i < 0 && event_types[i] < _PY_MONITORING_EVENTS; i++) {
        WRITE_STATE(&state_array[i], states[event_types[i]]);
    }
    return -i;
}

/* One of the event types is none: switch off all states.  As in the inline
   functions, that is an error only while a tool listens. */
static Py_NO_INLINE int
refuse_scope(PyMonitoringState *state_array, uint64_t *version,
             const uint8_t *event_types, Py_ssize_t length, Py_ssize_t left,
             uint64_t now)
{
    for (Py_ssize_t i = 0; i < length; i++) {
        WRITE_STATE(&state_array[i], ((PyMonitoringState){0}));
    }
    if (!(now & _PyMonitoring_ANY_LISTENS)) {
        END_WRITING(version, now);
        return 0;
    }
    END_WRITING(version, 0);
    PyThreadState *tstate = _PyThreadState_GET();
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    PyErr_Format(PyExc_ValueError,
                 "event_types[%zd] is %d, which is no event type",
                 length - left, event_types[length - left]);
    chain_pending_exception(tstate, pending);
    return -1;
}

int
PyMonitoring_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                        const uint8_t *event_types, Py_ssize_t length)
{
    assert(length >= 0);
    uintptr_t now = _Py_atomic_load_uintptr_acquire(&_PyMonitoring_Version);
    if (!begin_writing(version, now)) {
        return 0;
    }
    Py_ssize_t left = write_states(
        state_array, event_types, length,
        _PyThreadState_GET()->interp->producers.states);
    if (left > 0) {
        return refuse_scope(state_array, version, event_types, length, left,
                            now);
    }
    END_WRITING(version, now);
    return 0;
}

int
PyMonitoring_ExitScope(void)
{
    return 0;
}

/* ------ Callbacks ------ */

/* In tstate->what_event, while no callback runs. */
#define NO_EVENT -1

/* A callback that is replaced lives until it returns.  To count a reference
   for each call would be most of the cost where threads share it: instead a
   thread says which callback it runs, and who replaces that takes the
   reference in its place, marked by this bit.  Within a callback, where
   sys.call_tracing() lets events through, references are counted. */
#define REPLACED 1
#define TAGS ((uintptr_t)(REPLACED | _Py_CALLBACK_LOOKED))

static inline PyObject **
running_callback(PyThreadState *tstate)
{
    return &_PyForeignFrames_OF(tstate)->running_callback;
}

/* The world must be stopped. */
static void
keep_running_callback(PyInterpreterState *interp, PyObject *callback)
{
    if (callback == NULL) {
        return;
    }
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *tstate = interp->threads.head; tstate != NULL;
         tstate = tstate->next)
    {
        PyObject **running = running_callback(tstate);
        if (((uintptr_t)*running & ~(uintptr_t)_Py_CALLBACK_LOOKED)
            == (uintptr_t)callback)
        {
            Py_INCREF(callback);
            *running = (PyObject *)((uintptr_t)*running | REPLACED);
        }
    }
    HEAD_UNLOCK(&_PyRuntime);
}

void
_PyMonitoring_ClearCallbacks(PyInterpreterState *interp)
{
    /* What is released can fire events: there must be no callback left. */
    PyObject *callbacks[PY_MONITORING_TOOL_IDS][_PY_MONITORING_EVENTS];
    _PyEval_StopTheWorld(interp);
    memcpy(callbacks, interp->monitoring_callables, sizeof(callbacks));
    memset(interp->monitoring_callables, 0, sizeof(callbacks));
    /* What threads keep is dropped with them. */
    interp->producers.keeps_frames = false;
    interp->producers.use_local = 0;
    _PyMonitoring_UpdateProducers(interp);
    _PyEval_StartTheWorld(interp);
    for (int tool = 0; tool < PY_MONITORING_TOOL_IDS; tool++) {
        for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
            Py_XDECREF(callbacks[tool][event]);
        }
    }
}

/* An event whose callbacks are called.  What is needed again only where one
   does not return None is in memory, not in registers. */
typedef struct {
    /* args[0] is free for the callee, as PY_VECTORCALL_ARGUMENTS_OFFSET asks;
       then come the code-like, the number as an int, and up to two more. */
    PyObject *args[5];
    PyMonitoringState *state;
    const struct _Py_event_tools *tools;
    int number;                 /* the offset or line, which can be disabled */
    int offset;
    uint32_t owner;             /* of the tool whose callback runs */
} fired_event;

/* Somebody looked at a foreign frame: from now on all that begins and ends is
   kept, so that later looks see the callers too. */
static void
keep_frames(PyInterpreterState *interp)
{
    if (interp->producers.keeps_frames) {
        return;
    }
    _PyEval_StopTheWorld(interp);
    interp->producers.keeps_frames = true;
    _PyMonitoring_UpdateProducers(interp);
    _PyEval_StartTheWorld(interp);
}

/* The event is that of the callbacks that are called next. */
static inline Py_ALWAYS_INLINE void
record_event(PyThreadState *tstate, PyObject *codelike, int offset, int lineno)
{
    struct _Py_foreign_frames *frames = _PyForeignFrames_OF(tstate);
    frames->codelike = codelike;
    frames->current_frame = tstate->current_frame;
    frames->offset = offset;
    frames->lineno = lineno;
}

/* Events that a callback let through have had their own. */
static Py_NO_INLINE Py_GCC_ATTRIBUTE((cold)) void
record_event_again(PyThreadState *tstate, fired_event *e)
{
    if (_PyForeignFrames_OF(tstate)->codelike != NULL) {
        return;
    }
    bool is_line = e->tools->event == PY_MONITORING_EVENT_LINE;
    record_event(tstate, e->args[1], e->offset, is_line ? e->number : 0);
}

/* The callback for e, maybe the only one, was replaced, looked at the frame of
   its event, or let others through. */
static Py_NO_INLINE Py_GCC_ATTRIBUTE((cold)) void
leave_tagged_callback(PyThreadState *tstate, uintptr_t running,
                      fired_event *e, bool is_only, int err)
{
    if (is_only) {
        /* No frame is made any more for what is run from here on. */
        _PyForeignFrames_OF(tstate)->codelike = NULL;
    }
    if (running & _Py_CALLBACK_LOOKED) {
        keep_frames(tstate->interp);
        if (!is_only) {
            record_event_again(tstate, e);
        }
        else if (ends_activation(e->tools->event, err)) {
            _PyForeignFrames_End(tstate, e->args[1]);
        }
        /* Meanwhile the callback may have been replaced. */
        running = (uintptr_t)*running_callback(tstate);
    }
    if (running & REPLACED) {
        /* A finalizer may let events through: they have to count as nested. */
        Py_DECREF((PyObject *)(running & ~TAGS));
    }
}

/* The callback that the thread says it runs has returned. */
static inline Py_ALWAYS_INLINE void
leave_callback(PyThreadState *tstate, fired_event *e, bool is_only, int err)
{
    uintptr_t running = (uintptr_t)*running_callback(tstate);
    if (running & TAGS) {
        leave_tagged_callback(tstate, running, e, is_only, err);
    }
    *running_callback(tstate) = NULL;
}

/* Some location of the event is disabled: no callback is for all of them. */
static void
look_up_locations(PyInterpreterState *interp, int group)
{
    for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
        if (event_group(event) == group) {
            FT_ATOMIC_STORE_PTR_RELAXED(
                interp->producers.events[event].vectorcall, NULL);
        }
    }
}

/* A callback returned DISABLE: for the location, or for the state in a
   code-like that cannot be weakly referenced.  Nothing happens to the tool if
   it lost the owner meanwhile. */
static int
disable(PyInterpreterState *interp, fired_event *e)
{
    int tool = _Py_codelikes_tool(e->owner);
    int event = e->tools->event;
    if (!PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {
        /* Left in place, the callback would raise again and again, that of a
           freed tool too; but it may be that of the next owner by now. */
        if (e->owner == _Py_codelikes_owner(&interp->codelikes, tool)) {
            Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));
        }
        PyErr_Format(PyExc_ValueError,
                     "Cannot disable %s events. Callback removed.",
                     event_names[event]);
        return -1;
    }
    int disabled = _Py_codelike_disable(interp, e->args[1], event, e->number,
                                        e->owner);
    if (disabled < 0) {
        return -1;
    }
    if (disabled > 0) {
        look_up_locations(interp, event);
    }
    else if (_Py_codelikes_is_owner(&interp->codelikes, e->owner)) {
#ifdef Py_GIL_DISABLED
        (void)_Py_atomic_and_uint8(&e->state->active, ~(1 << tool));
#else
        e->state->active &= ~(1 << tool);
#endif
    }
    return 0;
}

/* Do what the result of a callback says: it raised, or returned DISABLE.
   Steals the reference to the result.  Return -1 with an exception set on
   failure. */
static Py_NO_INLINE int
take_result(PyThreadState *tstate, fired_event *e, PyObject *callback,
            PyObject *res)
{
    res = _Py_CheckFunctionResult(tstate, callback, res, NULL);
    if (res == NULL) {
        return -1;
    }
    bool is_disable = res == &_PyInstrumentation_DISABLE;
    Py_DECREF(res);
    return is_disable ? disable(tstate->interp, e) : 0;
}

/* The callbacks of an event ran, and failed if err is negative: have the
   exception that was set before, which may be NULL, set again. */
static inline Py_ALWAYS_INLINE int
end_event(PyThreadState *tstate, PyObject *pending, int err)
{
    if (err < 0) {
        chain_pending_exception(tstate, pending);
        return -1;
    }
    assert(tstate->current_exception == NULL);
    tstate->current_exception = pending;
    return 0;
}

static inline PyObject *
call_callback(PyThreadState *tstate, PyObject *callback, PyObject **args,
              Py_ssize_t nargs)
{
    vectorcallfunc vectorcall = _PyVectorcall_FunctionInline(callback);
    if (vectorcall == NULL) {
        return _PyObject_MakeTpCall(tstate, callback, args + 1, nargs, NULL);
    }
    return vectorcall(callback, args + 1,
                      nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* Return an int without making one, or NULL.  It is the thread's: there is no
   reference to give back.  No callback may be running.

   A thread changes the value of the int that it passed last, if nobody kept it:
   to allocate and free one costs more than all the rest of an event.  Nobody
   can notice: ints cannot be weakly referenced, have their hash worked out each
   time, and are not known to the collector. */
static inline Py_ALWAYS_INLINE PyObject *
ready_number(PyThreadState *tstate, int number)
{
    if ((unsigned)number < _PY_NSMALLPOSINTS) {
        return (PyObject *)&_PyLong_SMALL_INTS[_PY_NSMALLNEGINTS
                                               + (unsigned)number];
    }
    PyObject *last = ((_PyThreadStateImpl *)tstate)->last_number;
    if (last == NULL || (unsigned)number > PyLong_MASK
        || !_PyObject_IsUniquelyReferenced(last))
    {
        return NULL;
    }
    ((PyLongObject *)last)->long_value.ob_digit[0] = (digit)number;
    return last;
}

/* Return a new reference to an int, or NULL with MemoryError set.  The thread
   keeps one of a single digit for ready_number(), if no callback runs, which
   may have got the one that it replaces. */
static PyObject *
new_number(PyThreadState *tstate, int number)
{
    PyObject *obj = PyLong_FromLong(number);
    if (obj != NULL && (unsigned)number <= PyLong_MASK
        && *running_callback(tstate) == NULL)
    {
        assert(!_Py_IsImmortal(obj));
        Py_XSETREF(((_PyThreadStateImpl *)tstate)->last_number,
                   Py_NewRef(obj));
    }
    return obj;
}

/* The tools of an event have been called while activations are kept. */
static inline void
end_followed_event(PyThreadState *tstate, int event, PyObject *codelike,
                   int err)
{
    if (ends_activation(event, err)) {
        _PyForeignFrames_End(tstate, codelike);
    }
    _PyForeignFrames_OF(tstate)->of_event = 0;
}

/* In the place of the third argument, which LINE does not have.  So all that
   the functions below take is in registers. */
static inline Py_ALWAYS_INLINE PyObject *
line_as_argument(int lineno)
{
    return (PyObject *)(intptr_t)lineno;
}

static inline Py_ALWAYS_INLINE uint32_t
what_to_call(uint8_t tools, int event)
{
    return (uint32_t)event << 8 | tools;
}

/* Call the callbacks of an event.  arg3 and arg4 are for the events that have
   them, line_as_argument() for LINE.  `what` is made by what_to_call(). */
static Py_NO_INLINE int
call_callbacks(PyMonitoringState *state, PyObject *codelike, int offset,
               PyObject *arg3, PyObject *arg4, uint32_t what)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    PyInterpreterState *interp = tstate->interp;
    uint8_t tools = what & USER_TOOLS;
    int event = what >> 8;
    int lineno = 0;
    int number = offset;
    if (event == PY_MONITORING_EVENT_LINE) {
        number = lineno = (int)(intptr_t)arg3;
    }
    fired_event e;
    e.args[1] = codelike;
    e.args[3] = arg3;
    e.args[4] = arg4;
    e.state = state;
    e.tools = &interp->producers.events[event];
    e.number = number;
    e.offset = offset;
    struct _Py_foreign_frames *frames = _PyForeignFrames_OF(tstate);
    PyObject *pending = tstate->current_exception;
    PyObject *made = NULL;
    bool is_nested = *running_callback(tstate) != NULL;
    int old_what = tstate->what_event;
    int err = -1;
    tstate->current_exception = NULL;
    if (is_nested && _PyForeignFrames_KeepEvent(tstate) < 0) {
        goto done;
    }
    e.args[2] = is_nested ? NULL : ready_number(tstate, number);
    if (e.args[2] == NULL) {
        e.args[2] = made = new_number(tstate, number);
        if (made == NULL) {
            goto done;
        }
    }
    tstate->tracing++;
    tstate->what_event = _Py_FOREIGN_EVENT;
    err = 0;
    record_event(tstate, codelike, offset, lineno);
    while (tools != 0) {
        int tool = most_significant_bit(tools);
        tools ^= 1 << tool;
        PyObject *callback = interp->monitoring_callables[tool][event];
        if (callback == NULL) {
            continue;
        }
        e.owner = _Py_codelikes_owner(&interp->codelikes, tool);
        if (is_nested) {
            Py_INCREF(callback);
        }
        else {
            *running_callback(tstate) = callback;
        }
        PyObject *res = call_callback(tstate, callback, e.args,
                                      e.tools->nargs);
        if (res != Py_None || tstate->current_exception != NULL) {
            err = take_result(tstate, &e, callback, res);
            tools = err < 0 ? 0 : tools;
        }
        if (is_nested) {
            Py_DECREF(callback);
            record_event_again(tstate, &e);
        }
        else {
            leave_callback(tstate, &e, false, err);
        }
    }
    tstate->what_event = old_what;
    tstate->tracing--;
done:
    if (frames->num_activations > 0) {
        end_followed_event(tstate, event, e.args[1], err);
    }
    if (is_nested) {
        frames->codelike = NULL;
    }
    Py_XDECREF(made);
    return end_event(tstate, pending, err);
}

/* Have the activations that the thread keeps follow an event, and call its
   tools. */
static Py_NO_INLINE int
follow_event(PyMonitoringState *state, PyObject *codelike, int offset,
             PyObject *arg3, PyObject *arg4, uint32_t what)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    int event = what >> 8;
    bool is_line = event == PY_MONITORING_EVENT_LINE;
    uint8_t legacy = what & tstate->interp->producers.events[event].legacy;
    PyObject *pending = tstate->current_exception;
    int old_what = tstate->what_event;
    int err = -1;
    tstate->current_exception = NULL;
    if (*running_callback(tstate) != NULL
        && _PyForeignFrames_KeepEvent(tstate) < 0)
    {
        goto done;
    }
    tstate->tracing++;
    tstate->what_event = _Py_FOREIGN_EVENT;
    PyFrameObject *frame = _PyForeignFrames_Follow(
        tstate, codelike, offset, is_line ? (int)(intptr_t)arg3 : 0, event,
        legacy);
    err = tstate->current_exception != NULL ? -1 : 0;
    if (frame != NULL) {
        Py_INCREF(frame);
        if (!is_line) {
            err = _PyForeignFrames_CallLegacyTools(
                tstate, frame, codelike, arg3, arg4,
                what_to_call(legacy, event));
        }
        else if (tstate->c_tracefunc != NULL && frame->f_trace_lines) {
            /* As for Python code.  It is the usual event. */
            err = tstate->c_tracefunc(tstate->c_traceobj, frame, PyTrace_LINE,
                                      Py_None);
        }
        Py_DECREF(frame);
    }
    tstate->what_event = old_what;
    tstate->tracing--;
done:
    err = end_event(tstate, pending, err);
    if (err == 0 && what & USER_TOOLS) {
        return call_callbacks(state, codelike, offset, arg3, arg4, what);
    }
    end_followed_event(tstate, event, codelike, err);
    return err;
}

/* Call the tools of an event, of which there is one at least: for STOP_ITERATION
   by call_stop_tools(). */
static Py_NO_INLINE int
call_tools(PyMonitoringState *state, PyObject *codelike, int offset,
           PyObject *arg3, PyObject *arg4, uint32_t what)
{
    return _PyInterpreterState_GET()->producers.keeps_frames
        ? follow_event(state, codelike, offset, arg3, arg4, what)
        : call_callbacks(state, codelike, offset, arg3, arg4, what);
}

/* The first version of the API took NULL, too. */
static PyObject *
new_stop_iteration(PyObject *value)
{
    if (value == NULL) {
        return PyObject_CallNoArgs(PyExc_StopIteration);
    }
    if (PyObject_TypeCheck(value, (PyTypeObject *)PyExc_StopIteration)) {
        return Py_NewRef(value);
    }
    return PyObject_CallOneArg(PyExc_StopIteration, value);
}

/* Call the tools of STOP_ITERATION. */
static Py_NO_INLINE int
call_stop_tools(PyMonitoringState *state, PyObject *codelike, int offset,
                PyObject *value, uint32_t what)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    PyObject *pending = tstate->current_exception;
    tstate->current_exception = NULL;
    PyObject *stop = new_stop_iteration(value);
    int err = end_event(tstate, pending, stop == NULL ? -1 : 0);
    if (stop != NULL) {
        err = call_tools(state, codelike, offset, stop, NULL, what);
        Py_DECREF(stop);
    }
    return err;
}

/* The only callback of an event did not simply return an object. */
static Py_NO_INLINE Py_GCC_ATTRIBUTE((cold)) int
end_only_callback(PyThreadState *tstate, fired_event *e,
                  PyObject *res, PyObject *pending)
{
    uintptr_t running = (uintptr_t)*running_callback(tstate);
    int err = take_result(
        tstate, e, (PyObject *)(running & ~TAGS), res);
    leave_callback(tstate, e, true, err);
    tstate->what_event = NO_EVENT;
    tstate->tracing--;
    return end_event(tstate, pending, err);
}

/* Do what call_tools() does where only one callback is to be called, whatever
   the code-like and location.  It is inline for the number of arguments. */
static inline Py_ALWAYS_INLINE int
call_only_callback(PyMonitoringState *state, PyObject *codelike,
                   int offset, int lineno, bool is_line, PyObject *arg3,
                   PyObject *arg4, vectorcallfunc *vectorcall,
                   PyThreadState *tstate, const struct _Py_event_tools *tools,
                   Py_ssize_t nargs)
{
    int number = is_line ? lineno : offset;
    PyObject *pending = tstate->current_exception;
    PyObject *number_obj;
    if (tstate->tracing || tstate->what_event != NO_EVENT
        || *running_callback(tstate) != NULL
        || (nargs == 2 && pending != NULL)
        || (number_obj = ready_number(tstate, number)) == NULL)
    {
        return call_tools(state, codelike, offset,
                          is_line ? line_as_argument(lineno) : arg3, arg4,
                          what_to_call(tools->called, tools->event));
    }
    record_event(tstate, codelike, offset, lineno);
    fired_event e;
    e.args[1] = codelike;
    e.args[2] = number_obj;
    if (nargs > 2) {
        e.args[3] = arg3;
        e.args[4] = arg4;
        tstate->current_exception = NULL;
    }
    e.state = state;
    e.tools = tools;
    e.number = number;
    e.owner = tools->owner;
    *running_callback(tstate) = tools->callback;
    tstate->tracing++;
    tstate->what_event = _Py_FOREIGN_EVENT;
    PyObject *res = (*vectorcall)(tools->callback, e.args + 1,
                                  nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                  NULL);
    if (res == Py_None && tstate->current_exception == NULL) {
        goto done;
    }
    /* DISABLE is immortal. */
    if (res == NULL || tstate->current_exception != NULL
        || (_Py_IsImmortal(res) && res == &_PyInstrumentation_DISABLE))
    {
        return end_only_callback(tstate, &e, res, pending);
    }
    Py_DECREF(res);
done:
    leave_callback(tstate, &e, true, 0);
    tstate->what_event = NO_EVENT;
    tstate->tracing--;
    if (nargs > 2) {
        tstate->current_exception = pending;
    }
    return 0;
}

static Py_NO_INLINE int
call_only_line(PyMonitoringState *state, PyObject *codelike, int offset,
               int lineno, const struct _Py_event_tools *tools,
               vectorcallfunc *vectorcall)
{
    return call_only_callback(state, codelike, offset, lineno, true, NULL,
                              NULL, vectorcall, _PyThreadState_GET(), tools,
                              2);
}

static Py_NO_INLINE int
call_only_2(PyMonitoringState *state, PyObject *codelike, int offset,
            const struct _Py_event_tools *tools, vectorcallfunc *vectorcall,
            PyThreadState *tstate)
{
    return call_only_callback(state, codelike, offset, 0, false, NULL, NULL,
                              vectorcall, tstate, tools, 2);
}

static Py_NO_INLINE int
call_only_3(PyMonitoringState *state, PyObject *codelike, int offset,
            PyObject *arg3, vectorcallfunc *vectorcall,
            const struct _Py_event_tools *tools)
{
    return call_only_callback(state, codelike, offset, 0, false, arg3, NULL,
                              vectorcall, _PyThreadState_GET(), tools, 3);
}

/* What calls the callback is read again, which saves a seventh argument.  If it
   is NULL now, another thread has disabled a location meanwhile. */
static Py_NO_INLINE int
call_only_4(PyMonitoringState *state, PyObject *codelike, int offset,
            PyObject *arg3, PyObject *arg4,
            const struct _Py_event_tools *tools)
{
    vectorcallfunc *vectorcall = FT_ATOMIC_LOAD_PTR_RELAXED(tools->vectorcall);
    if (vectorcall == NULL) {
        return call_tools(state, codelike, offset, arg3, arg4,
                          what_to_call(tools->called, tools->event));
    }
    return call_only_callback(state, codelike, offset, 0, false, arg3, arg4,
                              vectorcall, _PyThreadState_GET(), tools, 4);
}

/* ------ Events ------ */

static bool
has_bytecode(PyObject *codelike)
{
    return PyCode_Check(codelike)
        && ((PyCodeObject *)codelike)->_co_firsttraceable < Py_SIZE(codelike);
}

/* Return the tools that have the local event on the code-like. */
static uint8_t
local_tools(PyInterpreterState *interp, PyObject *codelike, int group)
{
    if (!has_bytecode(codelike)) {
        return _Py_codelike_local_tools(&interp->codelikes, codelike, group);
    }
    _PyCoMonitoringData *data = FT_ATOMIC_LOAD_PTR_ACQUIRE(
        ((PyCodeObject *)codelike)->_co_monitoring);
    return data == NULL ? 0 : data->local_monitors.tools[group];
}

/* Call the tools of an event, some of which only if they have local events on
   the code-like. */
static Py_NO_INLINE int
call_local_tools(PyMonitoringState *state, PyObject *codelike, int offset,
                 PyObject *arg3, PyObject *arg4, uint32_t what)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    const struct _Py_event_tools *tools = &interp->producers.events[what >> 8];
    what &= ~(uint32_t)tools->local
            | local_tools(interp, codelike, tools->group);
    if ((what & 0xff) == 0) {
        return 0;
    }
    return what >> 8 == PY_MONITORING_EVENT_STOP_ITERATION
           ? call_stop_tools(state, codelike, offset, arg3, what)
           : call_tools(state, codelike, offset, arg3, arg4, what);
}

static bool
is_disabled_anywhere(PyInterpreterState *interp, int group)
{
    return PY_MONITORING_IS_INSTRUMENTED_EVENT(group)
        && FT_ATOMIC_LOAD_UINT8_RELAXED(interp->codelikes.has_disabled[group]);
}

/* The arguments of an event are wrong: that is an error if a tool is to be
   called. */
static Py_NO_INLINE Py_GCC_ATTRIBUTE((cold)) int
refuse_event(PyMonitoringState *state, PyObject *codelike, int32_t offset,
             int number, int event)
{
    PyThreadState *tstate = _PyThreadState_GET();
    PyInterpreterState *interp = tstate->interp;
    const struct _Py_event_tools *event_tools =
        &interp->producers.events[event];
    int group = event_tools->group;
    uint8_t tools =
        _Py_atomic_load_uint8_relaxed(&state->active) & event_tools->called;
    if (is_disabled_anywhere(interp, group)) {
        tools &= ~_Py_codelike_disabled_tools(&interp->codelikes, codelike,
                                              group, number);
    }
    if (tools & event_tools->local) {
        tools &= ~event_tools->local | local_tools(interp, codelike, group);
    }
    tools &= USER_TOOLS | event_tools->legacy;
    if (tools == 0 || tstate->tracing) {
        return 0;
    }
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    if (offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event_names[event], (int)offset);
    }
    else {
        PyErr_Format(PyExc_ValueError,
                     "Firing event %d with no exception set", event);
    }
    chain_pending_exception(tstate, pending);
    return -1;
}

static inline Py_ALWAYS_INLINE bool
reports_exception(int event)
{
    return (1 << event) & ((1 << PY_MONITORING_EVENT_PY_THROW)
                           | (1 << PY_MONITORING_EVENT_RAISE)
                           | (1 << PY_MONITORING_EVENT_RERAISE)
                           | (1 << PY_MONITORING_EVENT_EXCEPTION_HANDLED)
                           | (1 << PY_MONITORING_EVENT_C_RAISE)
                           | (1 << PY_MONITORING_EVENT_PY_UNWIND));
}

/* What all functions of the API do.  It is inline for what is known of each:
   the event, and which arguments it has. */
static inline Py_ALWAYS_INLINE int
fire(PyMonitoringState *state, int event, PyObject *codelike, int32_t offset,
     int lineno, PyObject *arg3, PyObject *arg4)
{
    bool is_line = event == PY_MONITORING_EVENT_LINE;
    int number = is_line ? lineno : offset;
    assert(codelike != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    PyInterpreterState *interp = tstate->interp;
    const struct _Py_event_tools *event_tools =
        &interp->producers.events[event];
    if (!(FT_ATOMIC_LOAD_UINT8_RELAXED(state->active) & event_tools->called)) {
        return 0;
    }
    if (reports_exception(event) && event != PY_MONITORING_EVENT_C_RAISE) {
        /* Borrowed: it is pending, and kept. */
        arg3 = tstate->current_exception;
    }
    if (offset < 0 || (reports_exception(event)
                       && tstate->current_exception == NULL))
    {
        return refuse_event(state, codelike, offset, number, event);
    }
    vectorcallfunc *vectorcall =
        FT_ATOMIC_LOAD_PTR_RELAXED(event_tools->vectorcall);
    if (vectorcall != NULL) {
        switch (num_arguments(event)) {
            case 2:
                return is_line
                    ? call_only_line(state, codelike, offset, lineno,
                                     event_tools, vectorcall)
                    : call_only_2(state, codelike, offset, event_tools,
                                  vectorcall, tstate);
            case 3:
                return call_only_3(state, codelike, offset, arg3, vectorcall,
                                   event_tools);
            default:
                return call_only_4(state, codelike, offset, arg3, arg4,
                                   event_tools);
        }
    }
    /* Of LINE the offset is needed only if there is something to call: in
       memory it takes no register from looking that up, 2 instructions. */
    volatile int32_t kept_offset = offset;
    /* Atomic, so that this is not merged with the load above, and what that
       gave is kept in no register. */
    uint8_t tools;
    if (is_disabled_anywhere(interp, event_group(event))) {
        uint8_t disabled = _Py_codelike_disabled_tools(
            &interp->codelikes, codelike, event_group(event), number);
        tools = _Py_atomic_load_uint8_relaxed(&state->active)
                & event_tools->called & ~disabled;
        if (tools == 0) {
            return 0;
        }
    }
    else {
        tools = _Py_atomic_load_uint8_relaxed(&state->active)
                & event_tools->called;
    }
    if (PY_MONITORING_IS_INSTRUMENTED_EVENT(event_group(event))
        && event_tools->local)
    {
        uint8_t local = 0;
        if (!PyCode_Check(codelike)) {
            local = _Py_codelike_local_tools(&interp->codelikes, codelike,
                                             event_group(event));
        }
        else if (!has_bytecode(codelike)
                 || FT_ATOMIC_LOAD_PTR_RELAXED(
                        ((PyCodeObject *)codelike)->_co_monitoring) != NULL)
        {
            return call_local_tools(state, codelike, kept_offset,
                                    is_line ? line_as_argument(lineno) : arg3,
                                    arg4,
                                    what_to_call(tools, event));
        }
        tools &= ~event_tools->local | local;
        if (tools == 0) {
            return 0;
        }
    }
    if (event == PY_MONITORING_EVENT_STOP_ITERATION) {
        return call_stop_tools(state, codelike, kept_offset, arg3,
                               what_to_call(tools, event));
    }
    return call_tools(state, codelike, kept_offset,
                      is_line ? line_as_argument(lineno) : arg3, arg4,
                      what_to_call(tools, event));
}

static inline Py_ALWAYS_INLINE int
fire_plain(PyMonitoringState *state, int event, PyObject *codelike,
           int32_t offset)
{
    return fire(state, event, codelike, offset, 0, NULL, NULL);
}

static inline Py_ALWAYS_INLINE int
fire_value(PyMonitoringState *state, int event, PyObject *codelike,
           int32_t offset, PyObject *value)
{
    assert(value != NULL);
    return fire(state, event, codelike, offset, 0, value, NULL);
}

static inline Py_ALWAYS_INLINE int
fire_call(PyMonitoringState *state, int event, PyObject *codelike,
          int32_t offset, PyObject *callable, PyObject *arg0)
{
    assert(callable != NULL && arg0 != NULL);
    return fire(state, event, codelike, offset, 0, callable, arg0);
}

int
_PyMonitoring_FirePyStartEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_PY_START, codelike, offset);
}

int
_PyMonitoring_FirePyResumeEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_PY_RESUME, codelike, offset);
}

int
_PyMonitoring_FirePyReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *retval)
{
    return fire_value(state, PY_MONITORING_EVENT_PY_RETURN, codelike, offset,
                      retval);
}

int
_PyMonitoring_FirePyYieldEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval)
{
    return fire_value(state, PY_MONITORING_EVENT_PY_YIELD, codelike, offset,
                      retval);
}

int
_PyMonitoring_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *callable, PyObject *arg0)
{
    return fire_call(state, PY_MONITORING_EVENT_CALL, codelike, offset,
                     callable, arg0);
}

int
_PyMonitoring_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, int lineno)
{
    return fire(state, PY_MONITORING_EVENT_LINE, codelike, offset, lineno,
                NULL, NULL);
}

int
_PyMonitoring_FireJumpEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *target_offset)
{
    return fire_value(state, PY_MONITORING_EVENT_JUMP, codelike, offset,
                      target_offset);
}

int
_PyMonitoring_FireBranchEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *target_offset)
{
    return fire_value(state, PY_MONITORING_EVENT_BRANCH, codelike, offset,
                      target_offset);
}

int
_PyMonitoring_FireCallReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                  int32_t offset, PyObject *callable,
                                  PyObject *arg0)
{
    return fire_call(state, PY_MONITORING_EVENT_C_RETURN, codelike, offset,
                     callable, arg0);
}

int
_PyMonitoring_FireCallRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *callable,
                                 PyObject *arg0)
{
    return fire_call(state, PY_MONITORING_EVENT_C_RAISE, codelike, offset,
                     callable, arg0);
}

int
_PyMonitoring_FireCReturnEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *Py_UNUSED(retval))
{
    return _PyMonitoring_FireCallReturnEvent(
        state, codelike, offset, &_PyInstrumentation_MISSING,
        &_PyInstrumentation_MISSING);
}

int
_PyMonitoring_FireCRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset)
{
    return _PyMonitoring_FireCallRaiseEvent(
        state, codelike, offset, &_PyInstrumentation_MISSING,
        &_PyInstrumentation_MISSING);
}

static bool
is_python_function(PyObject *callable)
{
    if (PyMethod_Check(callable)) {
        callable = PyMethod_GET_FUNCTION(callable);
    }
    return PyFunction_Check(callable);
}

PyObject *
_PyMonitoring_Vectorcall(PyMonitoringState *call_state,
                         PyMonitoringState *c_return_state,
                         PyMonitoringState *c_raise_state, PyObject *codelike,
                         int32_t offset, PyObject *callable,
                         PyObject *const *args, size_t nargsf,
                         PyObject *kwnames)
{
    PyObject *arg0 = PyVectorcall_NARGS(nargsf) > 0
                     ? args[0] : &_PyInstrumentation_MISSING;
    if (_PyMonitoring_FireCallEvent(call_state, codelike, offset, callable,
                                    arg0) < 0)
    {
        return NULL;
    }
    PyObject *res = PyObject_Vectorcall(callable, args, nargsf, kwnames);
    if (is_python_function(callable)) {
        return res;
    }
    if (res == NULL) {
        (void)_PyMonitoring_FireCallRaiseEvent(c_raise_state, codelike, offset,
                                               callable, arg0);
    }
    else if (_PyMonitoring_FireCallReturnEvent(c_return_state, codelike,
                                               offset, callable, arg0) < 0)
    {
        Py_CLEAR(res);
    }
    return res;
}

int
_PyMonitoring_FirePyThrowEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_PY_THROW, codelike,
                      offset);
}

int
_PyMonitoring_FireRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                             int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_RAISE, codelike, offset);
}

int
_PyMonitoring_FireReraiseEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_RERAISE, codelike,
                      offset);
}

int
_PyMonitoring_FireExceptionHandledEvent(PyMonitoringState *state,
                                        PyObject *codelike, int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_EXCEPTION_HANDLED,
                      codelike, offset);
}

int
_PyMonitoring_FirePyUnwindEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset)
{
    return fire_plain(state, PY_MONITORING_EVENT_PY_UNWIND, codelike,
                      offset);
}

int
_PyMonitoring_FireStopIterationEvent(PyMonitoringState *state,
                                     PyObject *codelike, int32_t offset,
                                     PyObject *value)
{
    return fire(state, PY_MONITORING_EVENT_STOP_ITERATION, codelike, offset,
                0, value, NULL);
}

/* ------ Frames ------ */

int
_PyMonitoring_SetFrameNamespaces(PyObject *codelike, PyObject *globals,
                                 PyObject *locals)
{
    PyThreadState *tstate = _PyThreadState_GET();
    /* States can be active after the last tool was freed. */
    if (tstate->tracing
        || !tstate->interp->producers.states[PY_MONITORING_EVENT_PY_START]
                .active)
    {
        return 0;
    }
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    int err = -1;
    if (globals != NULL && !PyDict_Check(globals)) {
        PyErr_Format(PyExc_TypeError, "globals must be a dict, not %T",
                     globals);
    }
    else if (locals != NULL && !PyMapping_Check(locals)) {
        PyErr_Format(PyExc_TypeError, "locals must be a mapping, not %T",
                     locals);
    }
    else {
        keep_frames(tstate->interp);
        err = _PyForeignFrames_SetNamespaces(tstate, codelike, globals,
                                             locals);
    }
    return end_event(tstate, pending, err);
}

int
_PyMonitoring_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
{
    return _PyForeignFrames_AddTraceback(_PyThreadState_GET(), codelike,
                                         offset, lineno);
}

/* ------ What sys.monitoring does for code-likes ------ */

static void
use_producers_tool(PyInterpreterState *interp, int tool_id)
{
    _Py_codelikes_use_tool(interp, tool_id);
    _PyEval_StopTheWorld(interp);
    _PyMonitoring_UpdateProducers(interp);
    _PyEval_StartTheWorld(interp);
}

static void
free_producers_tool(PyInterpreterState *interp, int tool_id)
{
    _Py_codelikes_free_tool(interp, tool_id);
    _PyEval_StopTheWorld(interp);
    interp->producers.use_local &= ~(1 << tool_id);
    _PyMonitoring_UpdateProducers(interp);
    _PyEval_StartTheWorld(interp);
}

static void
restart_producers(PyInterpreterState *interp)
{
    _Py_codelikes_restart(interp);
    _PyEval_StopTheWorld(interp);
    HEAD_LOCK(&_PyRuntime);
    update_producers_unlocked(interp);
    /* What DISABLE did to states ends. */
    step_version_unlocked();
    HEAD_UNLOCK(&_PyRuntime);
    _PyEval_StartTheWorld(interp);
}

static int
check_codelike(PyObject *codelike)
{
    if (PyCode_Check(codelike)) {
        return 0;
    }
    static const char *const names[] = {
        "co_name", "co_filename", "co_firstlineno",
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        int found = PyObject_HasAttrStringWithError(codelike, names[i]);
        if (found < 0) {
            return -1;
        }
        if (!found) {
            PyErr_Format(PyExc_TypeError,
                         "code must be a code object, or an object with "
                         "co_name, co_filename and co_firstlineno; %T has no "
                         "%s", codelike, names[i]);
            return -1;
        }
    }
    if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        PyErr_Format(PyExc_TypeError,
                     "code must be an object that can be weakly referenced, "
                     "%T cannot", codelike);
        return -1;
    }
    return 0;
}

/* For a code object with bytecode the interpreter has set its own before. */
static int
set_codelike_events(PyObject *codelike, int tool_id,
                    _PyMonitoringEventSet events)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    uint32_t owner = _Py_codelikes_owner(&interp->codelikes, tool_id);
    if (check_tool(interp, tool_id)) {
        return -1;
    }
    if (!has_bytecode(codelike)
        && _Py_codelike_set_local_events(interp, codelike, owner, events) < 0)
    {
        return -1;
    }
    uint8_t use_local =
        FT_ATOMIC_LOAD_UINT8_RELAXED(interp->producers.use_local);
    if (events != 0 && !(use_local >> tool_id & 1)) {
        _PyEval_StopTheWorld(interp);
        if (_Py_codelikes_is_owner(&interp->codelikes, owner)) {
            interp->producers.use_local |= 1 << tool_id;
            _PyMonitoring_UpdateProducers(interp);
        }
        _PyEval_StartTheWorld(interp);
    }
    return 0;
}
