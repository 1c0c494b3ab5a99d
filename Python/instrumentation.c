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

/* Return the tools that listen to the event of a producer, for the code-like
   or, if that is NULL, for any. */
static uint8_t
producer_tools(PyInterpreterState *interp, PyObject *codelike, int event)
{
    if (event == PY_MONITORING_EVENT_INSTRUCTION) {
        return 0;
    }
    if ((1 << event) & C_RETURN_EVENTS) {
        event = PY_MONITORING_EVENT_CALL;
    }
    uint8_t tools = interp->monitors.tools[event];
    if (PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {
        uint8_t local = FT_ATOMIC_LOAD_UINT8_RELAXED(
            interp->codelikes.local_tools[event]);
        if (local && codelike != NULL) {
            local = _Py_codelike_local_tools(interp, codelike, event);
        }
        tools |= local;
    }
    return tools & PRODUCER_TOOLS;
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

/* Call what the tools registered for the event.  args[0] is free for the
   callee, as PY_VECTORCALL_ARGUMENTS_OFFSET asks.  location is what DISABLE is
   for; in a code-like that cannot be weakly referenced it is for the state. */
static int
call_producer_tools(PyThreadState *tstate, PyMonitoringState *state,
                    uint8_t tools, int event, int location, PyObject **args,
                    Py_ssize_t nargs)
{
    PyInterpreterState *interp = tstate->interp;
    int err = 0;
    int old_what = tstate->what_event;
    /* No frame's f_lineno may be set: none is at a line of this event. */
    tstate->what_event = -1;
    tstate->tracing++;
    while (tools) {
        int tool = most_significant_bit(tools);
        tools ^= (1 << tool);
        PyObject *callback =
            Py_XNewRef(interp->monitoring_callables[tool][event]);
        if (callback == NULL) {
            continue;
        }
        PyObject *res = _PyObject_VectorcallTstate(
            tstate, callback, args + 1,
            nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(callback);
        if (res == NULL) {
            err = -1;
            break;
        }
        Py_DECREF(res);
        if (res != &_PyInstrumentation_DISABLE) {
            continue;
        }
        if (PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {
            int disabled = _Py_codelike_disable(interp, args[1], event,
                                                location, tool);
            if (disabled < 0) {
                err = -1;
                break;
            }
            if (!disabled) {
#ifdef Py_GIL_DISABLED
                (void)_Py_atomic_and_uint8(&state->active, ~(1 << tool));
#else
                state->active &= ~(1 << tool);
#endif
            }
        }
        else {
            /* Left in place, the callback would raise again and again. */
            Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));
            PyErr_Format(PyExc_ValueError,
                         "Cannot disable %s events. Callback removed.",
                         event_names[event]);
            err = -1;
            break;
        }
    }
    tstate->tracing--;
    tstate->what_event = old_what;
    return err;
}

/* Return the tools to tell of an event, without those that disabled its
   location; these are put into *disabled. */
static uint8_t
tools_to_tell(PyThreadState *tstate, PyMonitoringState *state, int event,
              PyObject *codelike, int32_t offset, int number,
              uint8_t *disabled)
{
    PyInterpreterState *interp = tstate->interp;
    assert(codelike != NULL);
    *disabled = 0;
    uint8_t tools = FT_ATOMIC_LOAD_UINT8_RELAXED(state->active)
                    & producer_tools(interp, codelike, event);
    if (tools == 0 || tstate->tracing) {
        return 0;
    }
    if (offset >= 0 && PY_MONITORING_IS_INSTRUMENTED_EVENT(event)
        && FT_ATOMIC_LOAD_UINT8_RELAXED(interp->codelikes.has_disabled[event]))
    {
        *disabled = tools & _Py_codelike_disabled_tools(interp, codelike,
                                                        event, number);
    }
    return tools & ~*disabled;
}

/* Tell the tools of an event whose callbacks take the nargs arguments after
   args[0].  args[2] is made here from number, the offset or line that is
   reported and that can be disabled. */
static int
tell_tools(PyThreadState *tstate, PyMonitoringState *state, uint8_t tools,
           int event, int32_t offset, int number, PyObject **args,
           Py_ssize_t nargs)
{
    int err = -1;
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    PyObject *stop = NULL;
    if (offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event_names[event], (int)offset);
        goto done;
    }
    if (pending == NULL && ((1 << event) & EXCEPTION_EVENTS)) {
        PyErr_Format(PyExc_ValueError,
                     "Firing event %d with no exception set", event);
        goto done;
    }
    if (event == PY_MONITORING_EVENT_STOP_ITERATION
        && !PyObject_TypeCheck(args[3],
                               (PyTypeObject *)PyExc_StopIteration))
    {
        stop = args[3] = PyObject_CallOneArg(PyExc_StopIteration, args[3]);
        if (stop == NULL) {
            goto done;
        }
    }
    args[2] = PyLong_FromLong(number);
    if (args[2] == NULL) {
        goto done;
    }
    err = call_producer_tools(tstate, state, tools, event, number, args,
                              nargs);
    Py_DECREF(args[2]);
done:
    Py_XDECREF(stop);
    if (err == 0) {
        _PyErr_SetRaisedException(tstate, pending);
    }
    else {
        chain_pending_exception(tstate, pending);
    }
    return err;
}

/* Fire an event with the arguments of tell_tools(). */
static int
fire_event(PyMonitoringState *state, int event, int32_t offset, int number,
           PyObject **args, Py_ssize_t nargs)
{
    PyThreadState *tstate = _PyThreadState_GET();
    uint8_t disabled;
    uint8_t tools = tools_to_tell(tstate, state, event, args[1], offset,
                                  number, &disabled);
    return tools == 0 ? 0 : tell_tools(tstate, state, tools, event, offset,
                                       number, args, nargs);
}

static int
fire_plain_event(PyMonitoringState *state, int event, PyObject *codelike,
                 int32_t offset)
{
    PyObject *args[] = {NULL, codelike, NULL};
    return fire_event(state, event, offset, offset, args, 2);
}

static int
fire_value_event(PyMonitoringState *state, int event, PyObject *codelike,
                 int32_t offset, PyObject *value)
{
    PyObject *args[] = {NULL, codelike, NULL, value};
    return fire_event(state, event, offset, offset, args, 3);
}

static int
fire_exception_event(PyMonitoringState *state, int event, PyObject *codelike,
                     int32_t offset)
{
    /* Borrowed: fire_event() holds the pending exception. */
    PyObject *exc = _PyThreadState_GET()->current_exception;
    return fire_value_event(state, event, codelike, offset, exc);
}

static bool
is_python_function(PyObject *callable)
{
    if (PyMethod_Check(callable)) {
        callable = PyMethod_GET_FUNCTION(callable);
    }
    return PyFunction_Check(callable);
}

/* Have a call wait for its answer, if any tool wants that.  Return whether it
   waits, or -1 with MemoryError set; keeps the exception that is set. */
static int
wait_for_answer(PyThreadState *tstate, const _Py_waiting_call *call)
{
    if (!(call->told || call->disabled)) {
        return 0;
    }
    PyObject *pending = _PyErr_GetRaisedException(tstate);
    int waits = _Py_waiting_calls_push(tstate, call);
    if (waits < 0) {
        chain_pending_exception(tstate, pending);
    }
    else {
        _PyErr_SetRaisedException(tstate, pending);
    }
    return waits;
}

static void
forget_call(PyThreadState *tstate, PyObject *codelike)
{
    _Py_waiting_call call;
    if (_Py_waiting_calls_take(tstate, codelike, &call)) {
        _Py_waiting_call_release(&call);
    }
}

/* Fire C_RETURN or C_RAISE, the answer to a CALL. */
static int
fire_answer_event(PyMonitoringState *state, int event, PyObject *codelike,
                  int32_t offset)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->tracing) {
        return 0;
    }
    _Py_waiting_call call = {0};
    (void)_Py_waiting_calls_take(tstate, codelike, &call);
    PyObject *args[] = {
        NULL, codelike, NULL,
        call.callable ? call.callable : &_PyInstrumentation_MISSING,
        call.arg0 ? call.arg0 : &_PyInstrumentation_MISSING,
    };
    uint8_t disabled;
    uint8_t tools = tools_to_tell(tstate, state, event, codelike, offset,
                                  offset, &disabled);
    tools &= ~call.disabled;
    int err = tools == 0 ? 0 : tell_tools(tstate, state, tools, event, offset,
                                          offset, args, 4);
    _Py_waiting_call_release(&call);
    return err;
}

int
_PyMonitoring_FirePyStartEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return fire_plain_event(state, PY_MONITORING_EVENT_PY_START, codelike,
                            offset);
}

int
_PyMonitoring_FirePyResumeEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset)
{
    return fire_plain_event(state, PY_MONITORING_EVENT_PY_RESUME, codelike,
                            offset);
}

int
_PyMonitoring_FirePyReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *retval)
{
    assert(retval != NULL);
    return fire_value_event(state, PY_MONITORING_EVENT_PY_RETURN, codelike,
                            offset, retval);
}

int
_PyMonitoring_FirePyYieldEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval)
{
    assert(retval != NULL);
    return fire_value_event(state, PY_MONITORING_EVENT_PY_YIELD, codelike,
                            offset, retval);
}

int
_PyMonitoring_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *callable,
                            PyObject *arg0)
{
    assert(callable != NULL && arg0 != NULL);
    PyThreadState *tstate = _PyThreadState_GET();
    PyObject *args[] = {NULL, codelike, NULL, callable, arg0};
    uint8_t disabled;
    uint8_t tools = tools_to_tell(tstate, state, PY_MONITORING_EVENT_CALL,
                                  codelike, offset, offset, &disabled);
    uint8_t answer_tools = tstate->interp->answer_tools;
    _Py_waiting_call call = {
        .codelike = codelike,
        .told = tools & answer_tools,
        .disabled = disabled & answer_tools,
    };
    if (call.told) {
        call.callable = callable;
        call.arg0 = arg0;
    }
    /* It waits before tools are told of it, so that what a callback does to a
       tool counts for it too. */
    int waits = 0;
    if (!is_python_function(callable)) {
        waits = wait_for_answer(tstate, &call);
    }
    int err = waits < 0 ? -1 : 0;
    if (tools && err == 0) {
        err = tell_tools(tstate, state, tools, PY_MONITORING_EVENT_CALL,
                         offset, offset, args, 4);
    }
    if (err < 0 && waits > 0) {
        forget_call(tstate, codelike);
    }
    return err;
}

int
_PyMonitoring_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, int lineno)
{
    PyObject *args[] = {NULL, codelike, NULL};
    return fire_event(state, PY_MONITORING_EVENT_LINE, offset, lineno,
                      args, 2);
}

int
_PyMonitoring_FireJumpEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *target_offset)
{
    assert(target_offset != NULL);
    return fire_value_event(state, PY_MONITORING_EVENT_JUMP, codelike, offset,
                            target_offset);
}

int
_PyMonitoring_FireBranchEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *target_offset)
{
    assert(target_offset != NULL);
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
    assert(value != NULL);
    return fire_value_event(state, PY_MONITORING_EVENT_STOP_ITERATION,
                            codelike, offset, value);
}

/* What the states of a scope are written for; never 0. */
static uint64_t
scope_version(PyInterpreterState *interp)
{
    uint32_t local = FT_ATOMIC_LOAD_UINT32_RELAXED(interp->codelikes.version);
    /* The low bits of the global version are free. */
    return (uint64_t)local << 32 | global_version(interp) | 1;
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

int
PyMonitoring_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                        const uint8_t *event_types, Py_ssize_t length)
{
    assert(length >= 0);
    PyThreadState *tstate = _PyThreadState_GET();
    PyInterpreterState *interp = tstate->interp;
    if (load_version(version) == scope_version(interp)) {
        goto entered;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        if (event_types[i] >= _PY_MONITORING_EVENTS) {
            PyObject *pending = _PyErr_GetRaisedException(tstate);
            PyErr_Format(PyExc_ValueError,
                         "event_types[%zd] is %d, which is no event type",
                         i, event_types[i]);
            chain_pending_exception(tstate, pending);
            return -1;
        }
    }
    /* Threads may write the same states.  Held from where the version is read,
       the lock keeps older states from being written over newer ones.  Global
       events change only while no thread is here, local ones under it. */
    _Py_codelikes_lock(interp);
    for (Py_ssize_t i = 0; i < length; i++) {
        FT_ATOMIC_STORE_UINT8_RELAXED(
            state_array[i].active,
            producer_tools(interp, NULL, event_types[i]));
        FT_ATOMIC_STORE_UINT8_RELAXED(state_array[i].opaque, 0);
    }
    store_version(version, scope_version(interp));
    _Py_codelikes_unlock(interp);
entered:
    if (interp->answer_tools) {
        _Py_waiting_calls_enter(tstate);
    }
    return 0;
}

int
PyMonitoring_ExitScope(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate->interp->answer_tools) {
        _Py_waiting_calls_exit(tstate);
    }
    return 0;
}

/* When callbacks change: find the tools that want answers to calls. */

static void
update_answer_tools(PyInterpreterState *interp)
{
    interp->answer_tools = 0;
    for (int tool = 0; PRODUCER_TOOLS >> tool; tool++) {
        PyObject **callables = interp->monitoring_callables[tool];
        if (callables[PY_MONITORING_EVENT_C_RETURN]
            || callables[PY_MONITORING_EVENT_C_RAISE])
        {
            interp->answer_tools |= 1 << tool;
        }
    }
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
    if (_Py_codelike_set_local_events(interp, codelike, tool_id, old) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(exc);
    return -1;
}
