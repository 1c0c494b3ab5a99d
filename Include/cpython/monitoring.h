#ifndef Py_CPYTHON_MONITORING_H
#  error "this header file must not be included directly"
#endif

/* Signal sys.monitoring events (PEP 669) from code that is not bytecode.

   A compiler, template engine or embedded language calls these functions, so
   that debuggers, profilers and coverage tools see its code as they see
   Python code.  Such a producer

   1. keeps one PyMonitoringState for each event type that it can fire in a
      scope, and one version for the whole array;
   2. calls PyMonitoring_EnterScope() where the scope starts, which writes to
      each state whether its event type is worth firing;
   3. calls PyMonitoring_Fire...Event() with the matching state wherever
      something happens, and PyMonitoring_Vectorcall() to call an object.
      While nobody listens this is one load and one branch;
   4. calls PyMonitoring_ExitScope() where the scope ends.

   A scope is one activation of a function, class body or module body.  A
   generator exits its scope at each yield and enters it at each resume.

   All functions return 0 on success, and -1 with an exception set on error,
   unless said otherwise.  The caller must hold the GIL (on the free-threaded
   build: have an attached thread state).  A binary that was compiled with this
   header runs on every CPython 3.13: what the interpreter lacks is found
   missing when the binary is loaded (but on Windows, where one that uses the
   functions which are new needs them). */

/* Event types.

   Those up to STOP_ITERATION happen at a location: a callback that returns
   sys.monitoring.DISABLE switches them off. */
#define PY_MONITORING_EVENT_PY_START 0
#define PY_MONITORING_EVENT_PY_RESUME 1
#define PY_MONITORING_EVENT_PY_RETURN 2
#define PY_MONITORING_EVENT_PY_YIELD 3
#define PY_MONITORING_EVENT_CALL 4
#define PY_MONITORING_EVENT_LINE 5
#define PY_MONITORING_EVENT_INSTRUCTION 6   /* bytecode's: never fired here */
#define PY_MONITORING_EVENT_JUMP 7
#define PY_MONITORING_EVENT_BRANCH 8
#define PY_MONITORING_EVENT_STOP_ITERATION 9

/* CPython 3.14 tells the two ways of a branch apart; its names work here, and
   tools see BRANCH. */
#define PY_MONITORING_EVENT_BRANCH_LEFT PY_MONITORING_EVENT_BRANCH
#define PY_MONITORING_EVENT_BRANCH_RIGHT PY_MONITORING_EVENT_BRANCH

#define PY_MONITORING_IS_INSTRUMENTED_EVENT(ev) \
    ((ev) < _PY_MONITORING_LOCAL_EVENTS)

/* Exceptions: these cannot be switched off for one location. */
#define PY_MONITORING_EVENT_RAISE 10
#define PY_MONITORING_EVENT_EXCEPTION_HANDLED 11
#define PY_MONITORING_EVENT_PY_UNWIND 12
#define PY_MONITORING_EVENT_PY_THROW 13
#define PY_MONITORING_EVENT_RERAISE 14

/* How a call ended.  A tool that listens to CALL listens to these too. */
#define PY_MONITORING_EVENT_C_RETURN 15
#define PY_MONITORING_EVENT_C_RAISE 16


/* Whether one event type is worth firing.  The producer owns the memory, the
   interpreter alone writes it. */
typedef struct _PyMonitoringState {
    uint8_t active;     /* zero: nobody listens */
    uint8_t opaque;     /* not used: zero */
} PyMonitoringState;


/* Enter a scope, or bring the states up to date in the middle of one.

   state_array[i] becomes the state of event_types[i] (PY_MONITORING_EVENT_*),
   for each i below length, which is not negative.  The array may be as short as
   the scope needs, and in any order.

   *version says what the states were last written for; set it to 0 when the
   memory is new, and otherwise leave it alone.  The memory of the states needs
   no initialization: afterwards all of them are defined.  When nothing changed
   since the last call, or the memory is new and nobody listens, this costs next
   to nothing.

   The producer owns what the arguments point to; none may be NULL.
   state_array and version must stay valid while events are fired with them;
   event_types is not kept.  One state array serves one list of event types and
   belongs to one interpreter: it must not be a static variable of an extension
   that supports several.  Nested and recursive scopes may share it, and so may
   threads, without a lock.  The interpreter keeps nothing of the call: scopes
   can be entered again at any place, and exited in any order or not at all.

   May be called with an exception set, and keeps it.  A tool that starts to
   listen later is called from the next call on; one that stops is no longer
   called from that moment.  (If it starts again while the states still name
   it, it is called at once.  So is a tool that chooses local events for a
   code-like, if before this call it had a callback for them, and an event on or
   other local events since it took its id.)

   Errors: ValueError for an id that is no event type, which is found while a
   tool listens to something.  The states are then inactive and *version is
   0. */
PyAPI_FUNC(int)
PyMonitoring_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                        const uint8_t *event_types, Py_ssize_t length);

/* Exit a scope: once per scope, however often PyMonitoring_EnterScope() was
   called in it.

   May be called with an exception set, and keeps it.  Never fails. */
PyAPI_FUNC(int)
PyMonitoring_ExitScope(void);

#ifndef _Py_NO_OPTIONAL_SYMBOLS
/* What states may depend on, in all interpreters of the process: a flag, and
   the number of changes so far. */
PyAPI_DATA(uintptr_t) _PyMonitoring_Version _Py_OPTIONAL;

#define _PyMonitoring_ANY_LISTENS 1
#define _PyMonitoring_VERSION_STEP 2

/* The version of an array that a thread is writing, where there is no GIL. */
#define _PyMonitoring_WRITING 1

static inline int
_PyMonitoring_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                         const uint8_t *event_types, Py_ssize_t length)
{
    if (_Py_HAS(_PyMonitoring_Version)) {
        uintptr_t now =
            _Py_atomic_load_uintptr_relaxed(&_PyMonitoring_Version);
#ifdef Py_GIL_DISABLED
        uint64_t written = _Py_atomic_load_uint64_acquire(version);
        if (written == now) {
            return 0;
        }
        /* Only memory that is new is no other thread's to write. */
        if (written == 0 && !(now & _PyMonitoring_ANY_LISTENS)
            && _Py_atomic_compare_exchange_uint64(version, &written,
                                                  _PyMonitoring_WRITING))
        {
            memset(state_array, 0, (size_t)length * sizeof(*state_array));
            _Py_atomic_store_uint64_release(version, now);
            return 0;
        }
#else
        if (*version == now) {
            return 0;
        }
        if (!(now & _PyMonitoring_ANY_LISTENS)) {
            memset(state_array, 0, (size_t)length * sizeof(*state_array));
            *version = now;
            return 0;
        }
#endif
    }
    return PyMonitoring_EnterScope(state_array, version, event_types, length);
}

static inline int
_PyMonitoring_ExitScope(void)
{
    return 0;
}

#define PyMonitoring_EnterScope _PyMonitoring_EnterScope
#define PyMonitoring_ExitScope _PyMonitoring_ExitScope
#endif


/* The functions behind the inline ones below, which are the API. */

PyAPI_FUNC(int)
_PyMonitoring_FirePyStartEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FirePyResumeEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FirePyReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *retval);
PyAPI_FUNC(int)
_PyMonitoring_FirePyYieldEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval);
PyAPI_FUNC(int)
_PyMonitoring_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *callable,
                            PyObject *arg0);
PyAPI_FUNC(int)
_PyMonitoring_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, int lineno);
PyAPI_FUNC(int)
_PyMonitoring_FireJumpEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset, PyObject *target_offset);
PyAPI_FUNC(int)
_PyMonitoring_FireBranchEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *target_offset);
PyAPI_FUNC(int)
_PyMonitoring_FireCReturnEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval);
PyAPI_FUNC(int)
_PyMonitoring_FireCallReturnEvent(PyMonitoringState *state,
                                  PyObject *codelike, int32_t offset,
                                  PyObject *callable, PyObject *arg0)
                                  _Py_OPTIONAL;
PyAPI_FUNC(int)
_PyMonitoring_FireCallRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *callable,
                                 PyObject *arg0) _Py_OPTIONAL;
PyAPI_FUNC(PyObject *)
_PyMonitoring_Vectorcall(PyMonitoringState *call_state,
                         PyMonitoringState *c_return_state,
                         PyMonitoringState *c_raise_state, PyObject *codelike,
                         int32_t offset, PyObject *callable,
                         PyObject *const *args, size_t nargsf,
                         PyObject *kwnames) _Py_OPTIONAL;
PyAPI_FUNC(int)
_PyMonitoring_FirePyThrowEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FireRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                             int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FireReraiseEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FireExceptionHandledEvent(PyMonitoringState *state,
                                        PyObject *codelike, int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FireCRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FirePyUnwindEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset);
PyAPI_FUNC(int)
_PyMonitoring_FireStopIterationEvent(PyMonitoringState *state,
                                     PyObject *codelike, int32_t offset,
                                     PyObject *value);
PyAPI_FUNC(int)
_PyMonitoring_SetFrameNamespaces(PyObject *codelike, PyObject *globals,
                                 PyObject *locals) _Py_OPTIONAL;
PyAPI_FUNC(int)
_PyMonitoring_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
                           _Py_OPTIONAL;


/* Threads may share a state where there is no GIL. */
#ifdef Py_GIL_DISABLED
#  define _PyMonitoring_IS_ACTIVE(STATE) \
    _Py_atomic_load_uint8_relaxed(&(STATE)->active)
#else
#  define _PyMonitoring_IS_ACTIVE(STATE) ((STATE)->active)
#endif

/* Fire an event.  What holds for all of these functions:

   state     The state of this event type, written by
             PyMonitoring_EnterScope().  It only gates: the function decides
             which event this is, so a state may be fired with another event
             than its own.
   codelike  The object that stands for this piece of foreign code; callbacks
             get it where Python code passes its code object.  Tools expect
             the attributes co_name, co_filename and co_firstlineno.  If it
             can be weakly referenced, a callback that returns DISABLE switches
             off this location for its tool, and local events work, both until
             it dies or the garbage collector finds it dying; otherwise DISABLE
             switches off the state (of CALL, that of CALL alone) until it is
             next written.
   offset    The producer's number of the location in codelike.  A negative
             one is a ValueError.

   Objects are borrowed, and must not be NULL; they are kept for as long as a
   callback keeps them.  The tools that listen are called one after the other,
   in the interpreter's own order.  The first callback that raises ends the
   event: the function then returns -1 with that exception set, and the
   producer should let it propagate.

   An exception that is set is kept: callbacks run with none set, and
   afterwards it is set again.  If a callback raises, its exception carries the
   pending one as __context__, as if it was raised while that was handled.  The
   producer saves nothing.

   While a callback runs in a thread, events fired in that thread do nothing.
   Arguments are checked only while a tool listens and no callback runs. */

/* A function or other scope starts. */
static inline int
PyMonitoring_FirePyStartEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyStartEvent(state, codelike, offset) : 0;
}

/* A generator or coroutine is resumed, other than by throw(). */
static inline int
PyMonitoring_FirePyResumeEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyResumeEvent(state, codelike, offset) : 0;
}

/* The scope is about to return retval. */
static inline int
PyMonitoring_FirePyReturnEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset, PyObject *retval)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyReturnEvent(state, codelike, offset, retval) : 0;
}

/* A generator or coroutine is about to yield retval. */
static inline int
PyMonitoring_FirePyYieldEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *retval)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyYieldEvent(state, codelike, offset, retval) : 0;
}

/* callable is about to be called.  arg0 is its first positional argument, or
   sys.monitoring.MISSING when there is none.  PyMonitoring_Vectorcall() fires
   this and what follows it. */
static inline int
PyMonitoring_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                           int32_t offset, PyObject *callable, PyObject *arg0)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireCallEvent(state, codelike, offset, callable, arg0)
        : 0;
}

/* A line of source is about to run.  Callbacks get codelike and lineno. */
static inline int
PyMonitoring_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                           int32_t offset, int lineno)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireLineEvent(state, codelike, offset, lineno) : 0;
}

/* Control goes to target_offset (a Python int) without a condition. */
static inline int
PyMonitoring_FireJumpEvent(PyMonitoringState *state, PyObject *codelike,
                           int32_t offset, PyObject *target_offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireJumpEvent(state, codelike, offset, target_offset)
        : 0;
}

/* A condition was decided, and control goes to target_offset (a Python int):
   one of the two places where a branch leads, taken or not. */
static inline int
PyMonitoring_FireBranchEvent(PyMonitoringState *state, PyObject *codelike,
                             int32_t offset, PyObject *target_offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireBranchEvent(state, codelike, offset, target_offset)
        : 0;
}

/* The same under the names of CPython 3.14, where left is the way that goes
   on with the next instruction and right the way that jumps.  On a 3.13
   interpreter tools see BRANCH for both. */
static inline int
PyMonitoring_FireBranchLeftEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *target_offset)
{
    return PyMonitoring_FireBranchEvent(state, codelike, offset,
                                        target_offset);
}

static inline int
PyMonitoring_FireBranchRightEvent(PyMonitoringState *state, PyObject *codelike,
                                  int32_t offset, PyObject *target_offset)
{
    return PyMonitoring_FireBranchEvent(state, codelike, offset,
                                        target_offset);
}

/* callable, which is neither a Python function nor a bound method of one,
   returned.  offset, callable and arg0 are those of its CALL: a tool that
   disabled the location for CALL does not get this either.  Does nothing where
   the interpreter lacks it.  New in this version. */
static inline int
PyMonitoring_FireCallReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *callable,
                                 PyObject *arg0)
{
    return _PyMonitoring_IS_ACTIVE(state)
        && _Py_HAS(_PyMonitoring_FireCallReturnEvent)
        ? _PyMonitoring_FireCallReturnEvent(state, codelike, offset, callable,
                                            arg0) : 0;
}

/* The same, but it raised the exception that is set, and which stays set.  With
   none set this is a ValueError. */
static inline int
PyMonitoring_FireCallRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *callable,
                                PyObject *arg0)
{
    return _PyMonitoring_IS_ACTIVE(state)
        && _Py_HAS(_PyMonitoring_FireCallRaiseEvent)
        ? _PyMonitoring_FireCallRaiseEvent(state, codelike, offset, callable,
                                           arg0) : 0;
}

/* The first version of the two functions above.  Callbacks get
   sys.monitoring.MISSING for callable and arg0; retval is not passed on. */
static inline int
PyMonitoring_FireCReturnEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset, PyObject *retval)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireCReturnEvent(state, codelike, offset, retval) : 0;
}

static inline int
PyMonitoring_FireCRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                             int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireCRaiseEvent(state, codelike, offset) : 0;
}

/* Call callable as PyObject_Vectorcall() does, and fire the events that belong
   around it: CALL, and unless callable is a Python function or a bound method
   of one C_RETURN or C_RAISE, at the offset of the CALL.

   Return the result, a new reference, or NULL with an exception set, where one
   of the callbacks raised too: callable was not called if one for CALL did, and
   its result is released if one for C_RETURN did.  The states are those of
   CALL, C_RETURN and C_RAISE; while that of CALL is not active, or where the
   interpreter lacks this, it is the bare call.  kwnames may be NULL, and args
   if there are none.  New in this version. */
static inline PyObject *
PyMonitoring_Vectorcall(PyMonitoringState *call_state,
                        PyMonitoringState *c_return_state,
                        PyMonitoringState *c_raise_state, PyObject *codelike,
                        int32_t offset, PyObject *callable,
                        PyObject *const *args, size_t nargsf,
                        PyObject *kwnames)
{
    return _PyMonitoring_IS_ACTIVE(call_state)
        && _Py_HAS(_PyMonitoring_Vectorcall)
        ? _PyMonitoring_Vectorcall(call_state, c_return_state, c_raise_state,
                                   codelike, offset, callable, args, nargsf,
                                   kwnames)
        : PyObject_Vectorcall(callable, args, nargsf, kwnames);
}

/* The events from here to PyUnwind report the exception that is set, and
   leave it set; with none set they are a ValueError. */

/* An exception is thrown into a generator or coroutine. */
static inline int
PyMonitoring_FirePyThrowEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyThrowEvent(state, codelike, offset) : 0;
}

/* An exception is raised, or arrives from a call. */
static inline int
PyMonitoring_FireRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                            int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireRaiseEvent(state, codelike, offset) : 0;
}

/* An exception is raised again, for instance at the end of a finally block. */
static inline int
PyMonitoring_FireReraiseEvent(PyMonitoringState *state, PyObject *codelike,
                              int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireReraiseEvent(state, codelike, offset) : 0;
}

/* An exception is about to be handled. */
static inline int
PyMonitoring_FireExceptionHandledEvent(PyMonitoringState *state,
                                       PyObject *codelike, int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireExceptionHandledEvent(state, codelike, offset) : 0;
}

/* The scope is left because of an exception. */
static inline int
PyMonitoring_FirePyUnwindEvent(PyMonitoringState *state, PyObject *codelike,
                               int32_t offset)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FirePyUnwindEvent(state, codelike, offset) : 0;
}

/* An iterator ended without raising StopIteration.  A StopIteration instance
   as value is reported as it is; any other object, tuples and exceptions
   included, as the .value of a new one. */
static inline int
PyMonitoring_FireStopIterationEvent(PyMonitoringState *state,
                                    PyObject *codelike, int32_t offset,
                                    PyObject *value)
{
    return _PyMonitoring_IS_ACTIVE(state)
        ? _PyMonitoring_FireStopIterationEvent(state, codelike, offset, value)
        : 0;
}

/* Say which variables the activation of codelike has that the thread runs:
   what its frame's f_globals and f_locals are, for debuggers.  Call it after
   the event that begins the activation, with any state of the scope; like the
   functions above it does nothing while the state is not active, or a callback
   runs.

   globals is a dict and locals a mapping; NULL leaves what was.  Both are kept
   until the activation ends, and locals is read when somebody looks: it may
   work its values out then.  What a debugger assigns stays with the frame.

   Errors: TypeError for other types, and nothing is changed then; what making
   the mapping for f_locals raises, MemoryError for instance.
   Does nothing where the interpreter lacks it.  New in this version. */
static inline int
PyMonitoring_SetFrameNamespaces(PyMonitoringState *state, PyObject *codelike,
                                PyObject *globals, PyObject *locals)
{
    return _PyMonitoring_IS_ACTIVE(state)
        && _Py_HAS(_PyMonitoring_SetFrameNamespaces)
        ? _PyMonitoring_SetFrameNamespaces(codelike, globals, locals) : 0;
}

/* Add a location of codelike to the traceback of the exception that is set,
   which stays set.  Call it once for each activation that the exception leaves
   or is handled in, before RAISE is fired; it needs no state, and works
   whether or not a tool listens.

   With a lineno of 0 the line is that of the offset.  If both are known and
   differ, the entry shows lineno, and no columns.  The entry's frame is the
   activation's, if there is one.

   Return 0, or -1 if the entry could not be made, for lack of memory for
   instance or of an interpreter that can: the exception is then as it was, so
   the result need not be looked at.  With none set, -1 with SystemError set.
   New in this version. */
static inline int
PyMonitoring_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
{
    return _Py_HAS(_PyMonitoring_AddTraceback)
        ? _PyMonitoring_AddTraceback(codelike, offset, lineno) : -1;
}

#undef _PyMonitoring_IS_ACTIVE

