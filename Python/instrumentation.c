/* The C-API by which code that is not bytecode signals events; the contract
   is in Include/cpython/monitoring.h. */

/* sys.setprofile() and sys.settrace() get no producer's events: their
   handlers look for the event's bytecode in the innermost Python frame. */
#define PRODUCER_TOOLS ((1 << PY_MONITORING_SYS_PROFILE_ID) - 1)

/* Events that report the exception that is set. */
#define EXCEPTION_EVENTS \
    ((1 << PY_MONITORING_EVENT_PY_THROW) | \
     (1 << PY_MONITORING_EVENT_RAISE) | \
     (1 << PY_MONITORING_EVENT_RERAISE) | \
     (1 << PY_MONITORING_EVENT_EXCEPTION_HANDLED) | \
     (1 << PY_MONITORING_EVENT_C_RAISE) | \
     (1 << PY_MONITORING_EVENT_PY_UNWIND))

/* Return the tools among those given that listen to the event of this
   code-like, and may not listen to that of another. */
static uint8_t
listening_tools(PyInterpreterState *interp, PyObject *codelike, int event,
                uint8_t tools)
{
    if ((1 << event) & C_RETURN_EVENTS) {
        event = PY_MONITORING_EVENT_CALL;
    }
    uint8_t local = tools & ~interp->monitors.tools[event];
    if (local == 0) {
        return tools;
    }
    /* The last code-like with local events may die meanwhile. */
    uint8_t confirmed =
        PY_MONITORING_IS_INSTRUMENTED_EVENT(event)
        && FT_ATOMIC_LOAD_UINT8(interp->codelikes.local_tools[event])
        ? _Py_codelike_local_tools(&interp->codelikes, codelike, event) : 0;
    return tools & ~(local & ~confirmed);
}

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
static void
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

/* The callback of a tool returned DISABLE.  location is what that is for; in a
   code-like that cannot be weakly referenced it is for the state.  Nothing
   happens to the tool if it lost the owner meanwhile. */
static int
disable(PyInterpreterState *interp, PyMonitoringState *state, uint32_t owner,
        int event, PyObject *codelike, int location)
{
    int tool = _Py_codelikes_tool(owner);
    if (!PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {
        /* Left in place, the callback would raise again and again, that of a
           freed tool too; but it may be that of the next owner by now. */
        if (owner == _Py_codelikes_owner(&interp->codelikes, tool)) {
            Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));
        }
        PyErr_Format(PyExc_ValueError,
                     "Cannot disable %s events. Callback removed.",
                     event_names[event]);
        return -1;
    }
    int disabled = _Py_codelike_disable(interp, codelike, event, location,
                                        owner);
    if (disabled == 0 && _Py_codelikes_is_owner(&interp->codelikes, owner)) {
#ifdef Py_GIL_DISABLED
        (void)_Py_atomic_and_uint8(&state->active, ~(1 << tool));
#else
        state->active &= ~(1 << tool);
#endif
    }
    return disabled < 0 ? -1 : 0;
}

/* Callbacks are called with borrowed references: counting them would be most
   of the cost where threads share them.  One that is replaced while producers'
   callbacks run is retired: kept until each thread that was in one has left
   it. */

struct _Py_retired_callback {
    PyObject *callback;
    struct _Py_retired_callback *next;
};

/* In the producer_callbacks of a thread, beside their number: a callback was
   retired meanwhile. */
#define CALLBACK_RETIRED (1 << 30)

/* In tstate->what_event, while no event is told and while one of a producer
   is.  A negative value keeps f_lineno from being set: no frame is at a line of
   a producer's event. */
#define NO_EVENT -1
#define PRODUCER_EVENT -2

static inline int *
producer_callbacks(PyThreadState *tstate)
{
    return &((_PyThreadStateImpl *)tstate)->producer_callbacks;
}

/* Set the flag in the threads that are in a producer's callback, or say only
   whether it is set in one.  The world must be stopped. */
static bool
find_retired(PyInterpreterState *interp, bool retire)
{
    bool found = false;
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *tstate = interp->threads.head; tstate != NULL;
         tstate = tstate->next)
    {
        int *callbacks = producer_callbacks(tstate);
        if (retire && *callbacks != 0) {
            *callbacks |= CALLBACK_RETIRED;
        }
        if (*callbacks & CALLBACK_RETIRED) {
            found = true;
        }
    }
    HEAD_UNLOCK(&_PyRuntime);
    return found;
}

/* Keep the callback, if it may run, for as long.  The world must be stopped.
   Return -1 with MemoryError set on failure. */
static int
retire_callback(PyInterpreterState *interp, PyObject *callback)
{
    if (callback == NULL || !find_retired(interp, true)) {
        return 0;
    }
    struct _Py_retired_callback *retired = PyMem_Malloc(sizeof(*retired));
    if (retired == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    retired->callback = Py_NewRef(callback);
    retired->next = interp->producers.retired;
    interp->producers.retired = retired;
    return 0;
}

static void
release_retired(struct _Py_retired_callback *retired)
{
    while (retired != NULL) {
        struct _Py_retired_callback *next = retired->next;
        Py_DECREF(retired->callback);
        PyMem_Free(retired);
        retired = next;
    }
}

/* A producer's callback ended in a thread, and either another one runs in it
   or one was retired meanwhile. */
static Py_NO_INLINE void
leave_retired(PyThreadState *tstate)
{
    PyInterpreterState *interp = tstate->interp;
    if (*producer_callbacks(tstate) != CALLBACK_RETIRED) {
        return;
    }
    struct _Py_retired_callback *retired = NULL;
    _PyEval_StopTheWorld(interp);
    *producer_callbacks(tstate) = 0;
    if (!find_retired(interp, false)) {
        retired = interp->producers.retired;
        interp->producers.retired = NULL;
    }
    _PyEval_StartTheWorld(interp);
    PyObject *exc = _PyErr_GetRaisedException(tstate);
    release_retired(retired);
    _PyErr_SetRaisedException(tstate, exc);
}

static inline void
enter_callback(PyThreadState *tstate)
{
    ++*producer_callbacks(tstate);
    tstate->tracing++;
    tstate->what_event = PRODUCER_EVENT;
}

static inline void
leave_callback(PyThreadState *tstate, int old_what)
{
    tstate->what_event = old_what;
    tstate->tracing--;
    if (--*producer_callbacks(tstate) != 0) {
        leave_retired(tstate);
    }
}

void
_PyMonitoring_ClearCallbacks(PyInterpreterState *interp)
{
    /* What is released can fire events: there must be no callback left. */
    PyObject *callbacks[PY_MONITORING_TOOL_IDS][_PY_MONITORING_EVENTS];
    memcpy(callbacks, interp->monitoring_callables, sizeof(callbacks));
    memset(interp->monitoring_callables, 0, sizeof(callbacks));
    struct _Py_retired_callback *retired = interp->producers.retired;
    interp->producers.retired = NULL;
    _PyMonitoring_UpdateProducers(interp);
    for (int tool = 0; tool < PY_MONITORING_TOOL_IDS; tool++) {
        for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
            Py_XDECREF(callbacks[tool][event]);
        }
    }
    release_retired(retired);
}

/* Return an int without making one, or NULL.  It is the thread's: there is no
   reference to give back, and it must not be asked for again before the
   callbacks that are told it have returned.

   A thread changes the value of the int that it told last, if nobody kept it:
   to allocate and free one would cost more than all the rest of an event.
   Nobody can notice: ints cannot be weakly referenced, have their hash worked
   out each time, and are not known to the collector. */
static inline PyObject *
ready_number(PyThreadState *tstate, int number)
{
    size_t small = (unsigned)number + _PY_NSMALLNEGINTS;
    if (small < _PY_NSMALLNEGINTS + _PY_NSMALLPOSINTS) {
        return (PyObject *)&_PyLong_SMALL_INTS[small];
    }
    PyObject *told = ((_PyThreadStateImpl *)tstate)->told_number;
    if (told == NULL || (unsigned)number > PyLong_MASK
        || !_PyObject_IsUniquelyReferenced(told))
    {
        return NULL;
    }
    ((PyLongObject *)told)->long_value.ob_digit[0] = (digit)number;
    return told;
}

/* Return a new reference to an int, or NULL with MemoryError set.  If it has
   one digit, the thread keeps it for the next event, unless a callback runs
   that may have been told the one that it would replace. */
static PyObject *
new_number(PyThreadState *tstate, int number)
{
    PyObject *obj = PyLong_FromLong(number);
    if (obj != NULL && !_Py_IsImmortal(obj)
        && (unsigned)number <= PyLong_MASK
        && *producer_callbacks(tstate) == 0)
    {
        Py_XSETREF(((_PyThreadStateImpl *)tstate)->told_number,
                   Py_NewRef(obj));
    }
    return obj;
}

/* An event that is told.  What is needed again where a callback does not return
   None is in memory: it would be saved and restored each time for registers to
   keep it. */
typedef struct {
    /* args[0] is free for the callee, as PY_VECTORCALL_ARGUMENTS_OFFSET asks,
       args[1] the code-like, and args[2] is made from number. */
    PyObject *args[5];
    PyMonitoringState *state;
    /* Set where there is only one tool: itself, its callback and owner. */
    struct _Py_only_tool *only;
    PyObject *callback;
    uint32_t owner;
    int number;                 /* the offset or line, which can be disabled */
} told_event;

/* Call a callback with the nargs arguments after args[0].  Return what
   PyObject_Vectorcall() returns; the usual None is not checked further. */
static inline PyObject *
call_callback(PyThreadState *tstate, PyObject *callback, PyObject **args,
              Py_ssize_t nargs)
{
    vectorcallfunc vectorcall = _PyVectorcall_FunctionInline(callback);
    if (vectorcall == NULL) {
        return _PyObject_MakeTpCall(tstate, callback, args + 1, nargs, NULL);
    }
    PyObject *res = vectorcall(callback, args + 1,
                               nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (res == Py_None && tstate->current_exception == NULL) {
        return res;
    }
    return _Py_CheckFunctionResult(tstate, callback, res, NULL);
}

/* Do what the result of a tool's callback says: it raised, or it returned
   DISABLE for the location.  Steals the reference to the result.  Return -1
   with an exception set on failure. */
static int
take_result(PyThreadState *tstate, told_event *e, uint32_t owner, int event,
            PyObject *res)
{
    if (res == NULL) {
        return -1;
    }
    Py_DECREF(res);
    return res == &_PyInstrumentation_DISABLE
        ? disable(tstate->interp, e->state, owner, event, e->args[1],
                  e->number)
        : 0;
}

/* Tell the tools, of which there is one at least, of an event whose callbacks
   take nargs arguments. */
static int
tell_tools(PyThreadState *tstate, uint8_t tools, int event, told_event *e,
           Py_ssize_t nargs)
{
    PyInterpreterState *interp = tstate->interp;
    PyObject **args = e->args;
    PyObject *pending = tstate->current_exception;
    PyObject *stop = NULL;
    PyObject *made = NULL;
    int err = -1;
    tstate->current_exception = NULL;
    if (event == PY_MONITORING_EVENT_STOP_ITERATION
        && !PyObject_TypeCheck(args[3],
                               (PyTypeObject *)PyExc_StopIteration))
    {
        stop = args[3] = PyObject_CallOneArg(PyExc_StopIteration, args[3]);
        if (stop == NULL) {
            goto done;
        }
    }
    args[2] = *producer_callbacks(tstate) == 0
        ? ready_number(tstate, e->number) : NULL;
    if (args[2] == NULL) {
        args[2] = made = new_number(tstate, e->number);
        if (made == NULL) {
            goto done;
        }
    }
    int old_what = tstate->what_event;
    enter_callback(tstate);
    err = 0;
    do {
        int tool = most_significant_bit(tools);
        tools ^= (1 << tool);
        PyObject *callback = interp->monitoring_callables[tool][event];
        if (callback == NULL) {
            continue;
        }
        uint32_t owner = _Py_codelikes_owner(&interp->codelikes, tool);
        PyObject *res = call_callback(tstate, callback, args, nargs);
        if (res != Py_None) {
            err = take_result(tstate, e, owner, event, res);
            if (err < 0) {
                break;
            }
        }
    } while (tools);
    leave_callback(tstate, old_what);
    Py_XDECREF(made);
done:
    Py_XDECREF(stop);
    if (err == 0) {
        assert(tstate->current_exception == NULL);
        tstate->current_exception = pending;
    }
    else {
        chain_pending_exception(tstate, pending);
    }
    return err;
}

static inline bool
are_arguments_valid(PyThreadState *tstate, int event, int32_t offset)
{
    return offset >= 0 && !(((1 << event) & EXCEPTION_EVENTS)
                            && tstate->current_exception == NULL);
}

/* The arguments of an event are wrong; it is an error if a tool listens other
   than those excluded. */
static Py_NO_INLINE int
refuse_event(PyMonitoringState *state, PyObject *codelike, int32_t offset,
             int event, PyThreadState *tstate, uint8_t excluded)
{
    PyInterpreterState *interp = tstate->interp;
    uint8_t tools = FT_ATOMIC_LOAD_UINT8_RELAXED(state->active)
        & FT_ATOMIC_LOAD_UINT8_RELAXED(interp->producers.listeners[event])
        & ~excluded;
    if (tstate->tracing
        || !listening_tools(interp, codelike, event, tools))
    {
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

/* Return the tools that the state and the interpreter have for an event. */
static inline uint8_t
tools_of_state(PyThreadState *tstate, PyMonitoringState *state, int event)
{
    return FT_ATOMIC_LOAD_UINT8_RELAXED(state->active)
        & FT_ATOMIC_LOAD_UINT8_RELAXED(tstate->interp->producers.told[event]);
}

/* Return the tools that disabled a location, whether they listen or not. */
static inline uint8_t
disabled_tools(PyThreadState *tstate, int event, PyObject *codelike,
               int number)
{
    struct _Py_codelikes_state *codelikes = &tstate->interp->codelikes;
    return PY_MONITORING_IS_INSTRUMENTED_EVENT(event)
           && FT_ATOMIC_LOAD_UINT8(codelikes->has_disabled[event])
           ? _Py_codelike_disabled_tools(codelikes, codelike, event, number)
           : 0;
}

/* Among the tools that did not disable the location of an event, tell those
   that listen to the code-like.  The arguments are valid. */
static int
tell_listeners(uint8_t tools, int event, told_event *e, Py_ssize_t nargs)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    tools = listening_tools(tstate->interp, e->args[1], event, tools);
    return tools == 0 ? 0 : tell_tools(tstate, tools, event, e, nargs);
}

/* ------ Events, first what they have in common ------

   The functions here are called last in those of the API, with arguments at
   the places where they were. */

static Py_NO_INLINE int
tell_plain(PyMonitoringState *state, PyObject *codelike, uint8_t tools,
           int number, int event)
{
    told_event e;
    e.args[1] = codelike;
    e.state = state;
    e.number = number;
    return tell_listeners(tools, event, &e, 2);
}

static Py_NO_INLINE int
tell_value(PyMonitoringState *state, PyObject *codelike, int32_t offset,
           PyObject *value, uint8_t tools, int event)
{
    told_event e;
    e.args[1] = codelike;
    e.args[3] = value;
    e.state = state;
    e.number = offset;
    return tell_listeners(tools, event, &e, 3);
}

/* The usual case: there is one tool to tell, nothing is special for any
   code-like or location, and no callback runs. */

/* Return where the vectorcall function of the callback is, or NULL where the
   interpreter's side of the usual case is not given. */
static inline Py_ALWAYS_INLINE vectorcallfunc *
usual_vectorcall(PyThreadState *tstate, int event)
{
    return FT_ATOMIC_LOAD_PTR_ACQUIRE(
        tstate->interp->producers.only[event].vectorcall);
}

/* The tool of the usual case, as a set. */
static inline uint8_t
only_tool(struct _Py_only_tool *only)
{
    return 1 << _Py_codelikes_tool(FT_ATOMIC_LOAD_UINT32_RELAXED(only->owner));
}

/* Say whether the only tool is one of those that were found before. */
static inline Py_ALWAYS_INLINE bool
is_only_tool_among(PyThreadState *tstate, int event, uint8_t tools)
{
#ifdef Py_GIL_DISABLED
    return tools & only_tool(&tstate->interp->producers.only[event]);
#else
    (void)tstate;
    (void)event;
    (void)tools;
    return true;
#endif
}

static inline Py_ALWAYS_INLINE bool
is_thread_usual(PyThreadState *tstate)
{
    return tstate->tracing == 0 && tstate->what_event == NO_EVENT;
}

static Py_NO_INLINE Py_GCC_ATTRIBUTE((cold)) int
end_unusually(PyThreadState *tstate, told_event *e, PyObject *res)
{
    res = _Py_CheckFunctionResult(tstate, e->callback, res, NULL);
    int event = (int)(e->only - tstate->interp->producers.only);
    int err = take_result(tstate, e, e->owner, event, res);
    leave_callback(tstate, NO_EVENT);
    return err;
}

/* Do what tell_tools() does where no exception is set.  The event has all its
   arguments. */
static inline Py_ALWAYS_INLINE int
tell_only_tool(PyThreadState *tstate, struct _Py_only_tool *only,
               vectorcallfunc *vectorcall, told_event *e, Py_ssize_t nargs)
{
    e->only = only;
    e->callback = FT_ATOMIC_LOAD_PTR_RELAXED(only->callback);
    e->owner = FT_ATOMIC_LOAD_UINT32_RELAXED(only->owner);
    enter_callback(tstate);
    PyObject *res = (*vectorcall)(
        e->callback, e->args + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
        NULL);
    if (res != Py_None || tstate->current_exception != NULL) {
        return end_unusually(tstate, e, res);
    }
    leave_callback(tstate, NO_EVENT);
    return 0;
}

/* The same where the exception is set, if it is not NULL. */
static inline Py_ALWAYS_INLINE int
tell_only_tool_beside(PyThreadState *tstate, PyObject *pending,
                      struct _Py_only_tool *only, vectorcallfunc *vectorcall,
                      told_event *e, Py_ssize_t nargs)
{
    tstate->current_exception = NULL;
    int err = tell_only_tool(tstate, only, vectorcall, e, nargs);
    if (err == 0) {
        tstate->current_exception = pending;
    }
    else {
        chain_pending_exception(tstate, pending);
    }
    return err;
}

static Py_NO_INLINE int
tell_plain_usual(PyMonitoringState *state, PyObject *codelike,
                 vectorcallfunc *vectorcall, int number,
                 PyThreadState *tstate, struct _Py_only_tool *only)
{
    PyObject *number_obj = ready_number(tstate, number);
    if (number_obj == NULL) {
        int event = (int)(only - tstate->interp->producers.only);
        return tell_plain(state, codelike, only_tool(only), number, event);
    }
    told_event e;
    e.args[1] = codelike;
    e.args[2] = number_obj;
    e.state = state;
    e.number = number;
    return tell_only_tool(tstate, only, vectorcall, &e, 2);
}

static Py_NO_INLINE int
tell_value_usual(PyMonitoringState *state, PyObject *codelike, int32_t offset,
                 PyObject *value, vectorcallfunc *vectorcall,
                 struct _Py_only_tool *only)
{
    PyThreadState *tstate = _PyThreadState_GET();
    PyObject *number_obj = ready_number(tstate, offset);
    if (number_obj == NULL) {
        int event = (int)(only - tstate->interp->producers.only);
        return tell_value(state, codelike, offset, value, only_tool(only),
                          event);
    }
    told_event e;
    e.args[1] = codelike;
    e.args[2] = number_obj;
    e.args[3] = value;
    e.state = state;
    e.number = offset;
    return tell_only_tool(tstate, only, vectorcall, &e, 3);
}

static Py_NO_INLINE int
tell_exception_usual(PyMonitoringState *state, PyObject *codelike,
                     int32_t offset, vectorcallfunc *vectorcall,
                     PyThreadState *tstate, struct _Py_only_tool *only)
{
    PyObject *pending = tstate->current_exception;
    PyObject *number_obj = ready_number(tstate, offset);
    if (number_obj == NULL) {
        int event = (int)(only - tstate->interp->producers.only);
        return tell_value(state, codelike, offset, pending, only_tool(only),
                          event);
    }
    told_event e;
    e.args[1] = codelike;
    e.args[2] = number_obj;
    e.args[3] = pending;
    e.state = state;
    e.number = offset;
    return tell_only_tool_beside(tstate, pending, only, vectorcall, &e, 3);
}

static inline Py_ALWAYS_INLINE int
fire_plain_event(PyMonitoringState *state, int event, PyObject *codelike,
                 int32_t offset, int number)
{
    assert(codelike != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    if (!are_arguments_valid(tstate, event, offset)) {
        return refuse_event(state, codelike, offset, event, tstate, 0);
    }
    uint8_t tools = tools_of_state(tstate, state, event);
    if (tools == 0) {
        return 0;
    }
    vectorcallfunc *vectorcall = usual_vectorcall(tstate, event);
    if (vectorcall != NULL && is_thread_usual(tstate)
        && tstate->current_exception == NULL
        && is_only_tool_among(tstate, event, tools))
    {
        return tell_plain_usual(state, codelike, vectorcall, number, tstate,
                                &tstate->interp->producers.only[event]);
    }
    tools &= ~disabled_tools(tstate, event, codelike, number);
    return tools == 0
        ? 0 : tell_plain(state, codelike, tools, number, event);
}

static inline Py_ALWAYS_INLINE int
fire_value_event(PyMonitoringState *state, int event, PyObject *codelike,
                 int32_t offset, PyObject *value)
{
    assert(codelike != NULL && value != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    if (!are_arguments_valid(tstate, event, offset)) {
        return refuse_event(state, codelike, offset, event, tstate, 0);
    }
    uint8_t tools = tools_of_state(tstate, state, event);
    if (tools == 0) {
        return 0;
    }
    vectorcallfunc *vectorcall = usual_vectorcall(tstate, event);
    if (vectorcall != NULL && event != PY_MONITORING_EVENT_STOP_ITERATION
        && is_thread_usual(tstate) && tstate->current_exception == NULL
        && is_only_tool_among(tstate, event, tools))
    {
        return tell_value_usual(state, codelike, offset, value, vectorcall,
                                &tstate->interp->producers.only[event]);
    }
    tools &= ~disabled_tools(tstate, event, codelike, offset);
    return tools == 0
        ? 0 : tell_value(state, codelike, offset, value, tools, event);
}

static inline Py_ALWAYS_INLINE int
fire_exception_event(PyMonitoringState *state, int event, PyObject *codelike,
                     int32_t offset)
{
    assert(codelike != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    if (!are_arguments_valid(tstate, event, offset)) {
        return refuse_event(state, codelike, offset, event, tstate, 0);
    }
    uint8_t tools = tools_of_state(tstate, state, event);
    if (tools == 0) {
        return 0;
    }
    vectorcallfunc *vectorcall = usual_vectorcall(tstate, event);
    if (vectorcall != NULL && is_thread_usual(tstate)
        && is_only_tool_among(tstate, event, tools))
    {
        return tell_exception_usual(state, codelike, offset, vectorcall,
                                    tstate,
                                    &tstate->interp->producers.only[event]);
    }
    /* Borrowed: it is pending, and kept. */
    return tell_value(state, codelike, offset, tstate->current_exception,
                      tools, event);
}

/* Tell the tools, of which there is one at least, of a CALL or its answer.
   The event has its state, its number, and its arguments except args[2]. */
static int
tell_call(PyThreadState *tstate, uint8_t tools, int event, told_event *e)
{
    struct _Py_only_tool *only = &tstate->interp->producers.only[event];
    vectorcallfunc *vectorcall = usual_vectorcall(tstate, event);
    /* The only tool may be another one than when the tools were found: what
       waits for an answer can be released meanwhile, and run finalizers. */
    if (vectorcall != NULL && is_thread_usual(tstate)
        && tools & only_tool(only))
    {
        e->args[2] = ready_number(tstate, e->number);
        if (e->args[2] != NULL) {
            return tell_only_tool_beside(tstate, tstate->current_exception,
                                         only, vectorcall, e, 4);
        }
    }
    return tell_tools(tstate, tools, event, e, 4);
}

static bool
is_python_function(PyObject *callable)
{
    if (PyMethod_Check(callable)) {
        callable = PyMethod_GET_FUNCTION(callable);
    }
    return PyFunction_Check(callable);
}

/* Have a CALL wait for its answer, unless nobody needs that.  disabled are the
   tools that disabled its location.  Set *serial if it waits.  Return -1 with
   MemoryError set on failure; keep the exception that is set. */
static Py_NO_INLINE int
wait_for_answer(PyThreadState *tstate, uint8_t told, uint8_t disabled,
                const told_event *e, uint64_t *serial)
{
    PyObject *callable = e->args[3];
    _Py_waiting_calls_called(tstate);
    if (!(told || disabled) || is_python_function(callable)) {
        return 0;
    }
    _Py_waiting_call call = {
        .codelike = e->args[1],
        .callable = told ? callable : NULL,
        .arg0 = told ? e->args[4] : NULL,
        .told = told,
        .disabled = disabled,
    };
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    int waits = _Py_waiting_calls_push(tstate, &call);
    if (waits < 0) {
        chain_pending_exception(tstate, pending);
        return -1;
    }
    _PyErr_SetRaisedException(tstate, pending);
    if (waits) {
        *serial = call.serial;
    }
    return 0;
}

/* Fire C_RETURN or C_RAISE, the answer to a CALL. */
static int
fire_answer_event(PyMonitoringState *state, int event, PyObject *codelike,
                  int32_t offset)
{
    assert(codelike != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    _Py_waiting_call call = {0};
    (void)_Py_waiting_calls_take(tstate, codelike, &call);
    int err = 0;
    if (!are_arguments_valid(tstate, event, offset)) {
        err = refuse_event(state, codelike, offset, event, tstate,
                           call.disabled);
        goto done;
    }
    uint8_t tools = listening_tools(
        tstate->interp, codelike, event,
        tools_of_state(tstate, state, event) & ~call.disabled);
    if (tools) {
        PyObject *missing = &_PyInstrumentation_MISSING;
        told_event e;
        e.args[1] = codelike;
        e.args[3] = call.callable ? call.callable : missing;
        e.args[4] = call.arg0 ? call.arg0 : missing;
        e.state = state;
        e.number = offset;
        err = tell_call(tstate, tools, event, &e);
    }
done:
    _Py_waiting_call_release(&call);
    return err;
}

int
_PyMonitoring_FirePyStartEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_plain_event(state, PY_MONITORING_EVENT_PY_START, codelike,
                            offset, offset);
}

int
_PyMonitoring_FirePyResumeEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset)
{
    return fire_plain_event(state, PY_MONITORING_EVENT_PY_RESUME, codelike,
                            offset, offset);
}

int
_PyMonitoring_FirePyReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *retval)
{
    return fire_value_event(state, PY_MONITORING_EVENT_PY_RETURN, codelike,
                            offset, retval);
}

int
_PyMonitoring_FirePyYieldEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval)
{
    return fire_value_event(state, PY_MONITORING_EVENT_PY_YIELD, codelike,
                            offset, retval);
}

int
_PyMonitoring_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *callable,
                            PyObject *arg0)
{
    assert(codelike != NULL && callable != NULL && arg0 != NULL);
    const int event = PY_MONITORING_EVENT_CALL;
    PyThreadState *tstate = _PyThreadState_GET();
    if (!are_arguments_valid(tstate, event, offset)) {
        return refuse_event(state, codelike, offset, event, tstate, 0);
    }
    uint8_t tools = tools_of_state(tstate, state, event);
    if (tools == 0 || tstate->tracing) {
        return 0;
    }
    tools = listening_tools(tstate->interp, codelike, event, tools);
    uint8_t disabled =
        tools & disabled_tools(tstate, event, codelike, offset);
    tools &= ~disabled;
    told_event e;
    e.args[1] = codelike;
    e.args[3] = callable;
    e.args[4] = arg0;
    e.state = state;
    e.number = offset;
    /* It waits before tools are told of it, so that what a callback does to a
       tool counts for it too. */
    uint64_t serial = 0;
    uint8_t answered =
        FT_ATOMIC_LOAD_UINT8_RELAXED(tstate->interp->producers.answered);
    if (answered && wait_for_answer(tstate, tools & answered,
                                    disabled & answered, &e, &serial) < 0)
    {
        return -1;
    }
    int err = tools ? tell_call(tstate, tools, event, &e) : 0;
    if (err < 0 && serial) {
        _Py_waiting_calls_forget(tstate, serial);
    }
    return err;
}

int
_PyMonitoring_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, int lineno)
{
    return fire_plain_event(state, PY_MONITORING_EVENT_LINE, codelike, offset,
                            lineno);
}

int
_PyMonitoring_FireJumpEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *target_offset)
{
    return fire_value_event(state, PY_MONITORING_EVENT_JUMP, codelike, offset,
                            target_offset);
}

int
_PyMonitoring_FireBranchEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *target_offset)
{
    return fire_value_event(state, PY_MONITORING_EVENT_BRANCH, codelike,
                            offset, target_offset);
}

int
_PyMonitoring_FireCReturnEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *Py_UNUSED(retval))
{
    return fire_answer_event(state, PY_MONITORING_EVENT_C_RETURN, codelike,
                             offset);
}

int
_PyMonitoring_FireCRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset)
{
    return fire_answer_event(state, PY_MONITORING_EVENT_C_RAISE, codelike,
                             offset);
}

int
_PyMonitoring_FirePyThrowEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_exception_event(state, PY_MONITORING_EVENT_PY_THROW, codelike,
                                offset);
}

int
_PyMonitoring_FireRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                             int32_t offset)
{
    return fire_exception_event(state, PY_MONITORING_EVENT_RAISE, codelike,
                                offset);
}

int
_PyMonitoring_FireReraiseEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_exception_event(state, PY_MONITORING_EVENT_RERAISE, codelike,
                                offset);
}

int
_PyMonitoring_FireExceptionHandledEvent(PyMonitoringState *state,
                                        PyObject *codelike, int32_t offset)
{
    return fire_exception_event(state, PY_MONITORING_EVENT_EXCEPTION_HANDLED,
                                codelike, offset);
}

int
_PyMonitoring_FirePyUnwindEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset)
{
    return fire_exception_event(state, PY_MONITORING_EVENT_PY_UNWIND, codelike,
                                offset);
}

int
_PyMonitoring_FireStopIterationEvent(PyMonitoringState *state,
                                     PyObject *codelike, int32_t offset,
                                     PyObject *value)
{
    return fire_value_event(state, PY_MONITORING_EVENT_STOP_ITERATION,
                            codelike, offset, value);
}

static uint64_t
load_version(uint64_t *version)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_uint64_acquire(version);
#else
    return *version;
#endif
}

static void
store_version(uint64_t *version, uint64_t value)
{
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint64_release(version, value);
#else
    *version = value;
#endif
}

/* Tells the inline functions what the states of a scope may depend on; the
   rest of it counts the changes, and is never 0. */
uintptr_t _PyMonitoring_Version = _PyMonitoring_VERSION_STEP;

/* What a state array is written for: EnterScope has to come here each time
   while scopes count, so this differs from the word then. */
static uint64_t
scope_version(void)
{
    uintptr_t word = _Py_atomic_load_uintptr_acquire(&_PyMonitoring_Version);
    return word & ~(uintptr_t)_PyMonitoring_SCOPES_COUNT;
}

/* The header has inline functions for the usual paths. */
#undef PyMonitoring_EnterScope
#undef PyMonitoring_ExitScope

/* One of the event types is none: raise ValueError. */
static Py_NO_INLINE void
refuse_scope(PyThreadState *tstate, const uint8_t *event_types)
{
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    Py_ssize_t i = 0;
    while (event_types[i] < _PY_MONITORING_EVENTS) {
        i++;
    }
    PyErr_Format(PyExc_ValueError,
                 "event_types[%zd] is %d, which is no event type", i,
                 event_types[i]);
    chain_pending_exception(tstate, pending);
}

int
PyMonitoring_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                        const uint8_t *event_types, Py_ssize_t length)
{
    assert(length >= 0);
    PyThreadState *tstate = _PyThreadState_GET();
    PyInterpreterState *interp = tstate->interp;
    if (load_version(version) == scope_version()) {
        goto entered;
    }
    uint8_t highest = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        highest = Py_MAX(highest, event_types[i]);
    }
    if (highest >= _PY_MONITORING_EVENTS) {
        refuse_scope(tstate, event_types);
        return -1;
    }
    /* Threads may write the same states.  Held from where the version is read,
       the lock keeps older states from being written over newer ones. */
    _Py_CODELIKES_LOCK(&interp->codelikes);
    uint64_t new_version = scope_version();
    for (Py_ssize_t i = 0; i < length; i++) {
        FT_ATOMIC_STORE_UINT8_RELAXED(
            state_array[i].active,
            FT_ATOMIC_LOAD_UINT8_RELAXED(
                interp->producers.listeners[event_types[i]]));
        FT_ATOMIC_STORE_UINT8_RELAXED(state_array[i].opaque, 0);
    }
    store_version(version, new_version);
    _Py_CODELIKES_UNLOCK(&interp->codelikes);
entered:
    if (FT_ATOMIC_LOAD_UINT8_RELAXED(interp->producers.answered)) {
        _Py_waiting_calls_enter(tstate, version);
    }
    return 0;
}

int
PyMonitoring_ExitScope(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (FT_ATOMIC_LOAD_UINT8_RELAXED(tstate->interp->producers.answered)) {
        _Py_waiting_calls_exit(tstate);
    }
    return 0;
}

/* Return the tools of an interpreter that listen to the event of any
   code-like. */
static uint8_t
find_listeners(PyInterpreterState *interp, int event)
{
    if (event == PY_MONITORING_EVENT_INSTRUCTION) {
        return 0;
    }
    if ((1 << event) & C_RETURN_EVENTS) {
        event = PY_MONITORING_EVENT_CALL;
    }
    uint8_t tools = interp->monitors.tools[event];
    if (PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {
        tools |= FT_ATOMIC_LOAD_UINT8_RELAXED(
            interp->codelikes.local_tools[event]);
    }
    return tools & PRODUCER_TOOLS;
}

/* Return the producers' tools that have a callback for the event. */
static uint8_t
find_callbacks(PyInterpreterState *interp, int event)
{
    uint8_t tools = 0;
    for (int tool = 0; PRODUCER_TOOLS >> tool; tool++) {
        if (interp->monitoring_callables[tool][event] != NULL) {
            tools |= 1 << tool;
        }
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

static void
update_only_tool(PyInterpreterState *interp, int event)
{
    struct _Py_only_tool *only = &interp->producers.only[event];
    uint8_t told = interp->producers.told[event];
    vectorcallfunc *vectorcall = NULL;
    if (told != 0 && (told & (told - 1)) == 0) {
        int tool = most_significant_bit(told);
        PyObject *callback = interp->monitoring_callables[tool][event];
        /* A thread that found vectorcall reads these without a stop on its
           way; until it is NULL they change only while the world is stopped. */
        FT_ATOMIC_STORE_PTR_RELAXED(only->callback, callback);
        FT_ATOMIC_STORE_UINT32_RELAXED(
            only->owner, _Py_codelikes_owner(&interp->codelikes, tool));
        if (callback != NULL
            && !(PY_MONITORING_IS_INSTRUMENTED_EVENT(event)
                 && (FT_ATOMIC_LOAD_UINT8(interp->codelikes.local_tools[event])
                     || FT_ATOMIC_LOAD_UINT8(
                            interp->codelikes.has_disabled[event]))))
        {
            vectorcall = find_vectorcall(callback);
        }
    }
    FT_ATOMIC_STORE_PTR_RELEASE(only->vectorcall, vectorcall);
}

static uintptr_t
version_flags(PyInterpreterState *interp)
{
    uintptr_t flags = interp->producers.answered
                      ? _PyMonitoring_SCOPES_COUNT : 0;
    for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
        if (interp->producers.listeners[event]) {
            flags |= _PyMonitoring_ANY_LISTENS;
        }
    }
    return flags;
}

/* Have all states be written again. */
static void
step_version_unlocked(void)
{
    uintptr_t word = _Py_atomic_load_uintptr_relaxed(&_PyMonitoring_Version);
    word &= ~(uintptr_t)(_PyMonitoring_VERSION_STEP - 1);
    word += _PyMonitoring_VERSION_STEP;
    if (word == 0) {
        word = _PyMonitoring_VERSION_STEP;
    }
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        word |= version_flags(interp);
    }
    _Py_atomic_store_uintptr_release(&_PyMonitoring_Version, word);
}

void
_PyMonitoring_UpdateProducers(PyInterpreterState *interp)
{
    struct _Py_producers *producers = &interp->producers;
    /* Held from where is read what all follows from: events and callbacks can
       change in several threads. */
    HEAD_LOCK(&_PyRuntime);
    uint8_t old_listeners[_PY_MONITORING_EVENTS];
    memcpy(old_listeners, producers->listeners, sizeof(old_listeners));
    bool was_answered = producers->answered != 0;
    uint8_t answered = find_callbacks(interp, PY_MONITORING_EVENT_C_RETURN)
                       | find_callbacks(interp, PY_MONITORING_EVENT_C_RAISE);
    for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
        uint8_t listeners = find_listeners(interp, event);
        uint8_t callbacks = find_callbacks(interp, event);
        if (event == PY_MONITORING_EVENT_CALL) {
            callbacks |= answered;
        }
        FT_ATOMIC_STORE_UINT8_RELAXED(producers->listeners[event], listeners);
        FT_ATOMIC_STORE_UINT8_RELAXED(producers->told[event],
                                      listeners & callbacks);
        update_only_tool(interp, event);
    }
    FT_ATOMIC_STORE_UINT8_RELAXED(producers->answered, answered);
    if (memcmp(old_listeners, producers->listeners, sizeof(old_listeners))
        || was_answered != (answered != 0))
    {
        step_version_unlocked();
    }
    HEAD_UNLOCK(&_PyRuntime);
}

/* Have every state be written again: what DISABLE did to states ends. */
static void
restart_producers(PyInterpreterState *interp)
{
    _Py_codelikes_restart(interp);
    HEAD_LOCK(&_PyRuntime);
    step_version_unlocked();
    HEAD_UNLOCK(&_PyRuntime);
}

/* Local events: what sys.monitoring takes as a code-like, and does for one. */

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

static bool
has_bytecode(PyObject *codelike)
{
    return PyCode_Check(codelike)
        && ((PyCodeObject *)codelike)->_co_firsttraceable < Py_SIZE(codelike);
}

static int
set_codelike_events(PyObject *codelike, int tool_id,
                    _PyMonitoringEventSet events)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    if (check_tool(interp, tool_id)) {
        return -1;
    }
    uint32_t old = _Py_codelike_get_local_events(interp, codelike, tool_id);
    if (_Py_codelike_set_local_events(interp, codelike, tool_id, events) < 0) {
        return -1;
    }
    if (!has_bytecode(codelike)
        || _PyMonitoring_SetLocalEvents((PyCodeObject *)codelike, tool_id,
                                        events) == 0)
    {
        return 0;
    }
    PyObject *exc = PyErr_GetRaisedException();
    /* The base leaves them set for bytecode that it did not instrument. */
    _PyEval_StopTheWorld(interp);
    _PyCoMonitoringData *data = ((PyCodeObject *)codelike)->_co_monitoring;
    if (data != NULL) {
        set_local_events(&data->local_monitors, tool_id, old);
    }
    _PyEval_StartTheWorld(interp);
    if (_Py_codelike_set_local_events(interp, codelike, tool_id, old) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(exc);
    return -1;
}
