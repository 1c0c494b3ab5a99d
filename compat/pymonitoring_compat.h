/* PyMonitoring_EnterScope(), PyMonitoring_Fire...Event() and the rest of the
   C-API by which code that is not bytecode signals sys.monitoring events
   (PEP 669), on every CPython from 3.12 on.

   Put this file into your project and include it, after Python.h or instead
   of it, or have the compiler include it: -include pymonitoring_compat.h.
   It needs no library and no build step.  It is C99 and C++11, and is written
   for the full C-API, not the limited one.

   Each function is documented in CPython's Include/cpython/monitoring.h, as
   the series "Monitoring events from code that is not bytecode" has it.  An
   interpreter with that series keeps all of these promises, and there this
   header adds nothing.  What holds elsewhere:

                                                      3.12    3.13 and later
   all names, both spellings of BRANCH                 yes     yes
   states always defined, unknown ids refused          yes     yes
   events fired while a callback runs do nothing       yes     yes
   a pending exception is kept, or is the __context__
     of what a callback raises                         yes     yes
   STOP_ITERATION reports every value unchanged        yes     yes
   sys.settrace and sys.setprofile get nothing         yes     yes
   a tool switched off in mid-scope is not called      yes     yes
   DISABLE is for one location (a)                     yes     yes
   DISABLE holds when any tool's events change         yes     no
   no event leaks                                      yes     no (b)
   C_RETURN and C_RAISE (c)                            yes     yes (d)
   BRANCH reaches tools as BRANCH                      yes     3.13 alone (e)
   f_lineno cannot be set in a callback                yes     no
   sys.monitoring.set_local_events for code-likes      no      no
   threads may share states (free-threaded build)       -      yes (f)

   (a) of a code-like that can be weakly referenced.  A tool that is freed and
       taken again under the same name object keeps what it disabled.  What a
       callback disables that frees its tool is disabled for the next owner.
   (b) The interpreter's own function loses one int for each event with an
       offset above 256 (3.15: 1024).
   (c) Calls that wait are kept until their scope exits or their code-like
       dies, even when their tool goes before.
   (d) Not on a free-threaded build.  Audit hooks hear of two calls of
       sys.monitoring.register_callback for each: nothing else tells a callback.
   (e) From 3.14 on they get BRANCH_LEFT or BRANCH_RIGHT, and BRANCH stands for
       the latter.  The interpreter can crash when a tool registered for the
       deprecated BRANCH.
   (f) Tried on 3.13.  3.12 has no such build.

   3.12 has no such C-API.  There the header reads the interpreter's tables
   through its internal headers.  At first use, and when a tool first listens,
   it compares what it reads with what sys.monitoring says; if that differs it
   sends no events in that process, and gives a RuntimeWarning.

   From https://peps.python.org/pep-0669/ the meaning of events, and from
   https://github.com/python/cpython/issues/111997 the C-API. */

#ifndef PYMONITORING_COMPAT_H
#define PYMONITORING_COMPAT_H

/* Python.h wants it before its first inclusion. */
#ifndef PY_SSIZE_T_CLEAN
#  define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#if defined(Py_LIMITED_API) || defined(PYPY_VERSION) \
    || PY_VERSION_HEX < 0x030C0000
#  error "pymonitoring_compat.h needs the full C-API of CPython 3.12 or later"
#endif

/* Only the series has 3.14's name in a 3.13. */
#if PY_VERSION_HEX >= 0x030E0000 || !defined(PY_MONITORING_EVENT_BRANCH_LEFT)

#if PY_VERSION_HEX < 0x030D0000
#  define PYMONITORING_COMPAT_TABLES 1
#else
#  define PYMONITORING_COMPAT_TABLES 0
#endif

/* ------ What an interpreter has: 3.12 ------ */

#if PYMONITORING_COMPAT_TABLES

/* Internal headers are clean in C and in C++ only without these two. */
#ifdef HAVE_STD_ATOMIC
#  undef HAVE_STD_ATOMIC
#  define PYMONITORING_COMPAT_STD_ATOMIC
#endif
#undef _PyGC_FINALIZED
#ifndef Py_BUILD_CORE
#  define Py_BUILD_CORE 1
#  define PYMONITORING_COMPAT_BUILD_CORE
#endif
#include <internal/pycore_interp.h>
#ifdef PYMONITORING_COMPAT_BUILD_CORE
#  undef Py_BUILD_CORE
#  undef PYMONITORING_COMPAT_BUILD_CORE
#endif
#ifdef PYMONITORING_COMPAT_STD_ATOMIC
#  define HAVE_STD_ATOMIC 1
#  undef PYMONITORING_COMPAT_STD_ATOMIC
#endif

typedef struct _PyMonitoringState {
    uint8_t active;
    uint8_t opaque;
} PyMonitoringState;

#endif

#if PY_VERSION_HEX < 0x030E0000
#  define PY_MONITORING_EVENT_BRANCH_LEFT PY_MONITORING_EVENT_BRANCH
#  define PY_MONITORING_EVENT_BRANCH_RIGHT PY_MONITORING_EVENT_BRANCH
#else
/* 3.14 fires no BRANCH: its id has no place in the interpreter's tables. */
#  undef PY_MONITORING_EVENT_BRANCH
#  define PY_MONITORING_EVENT_BRANCH PY_MONITORING_EVENT_BRANCH_RIGHT
#endif

/* 3.14's needs an internal header. */
#undef PY_MONITORING_IS_INSTRUMENTED_EVENT
#define PY_MONITORING_IS_INSTRUMENTED_EVENT(ev) \
    ((ev) <= PY_MONITORING_EVENT_STOP_ITERATION)

/* Without sys.setprofile() and sys.settrace(), which are made for bytecode. */
#define PYMONITORING_COMPAT_TOOLS 6
#define PYMONITORING_COMPAT_TOOL_MASK ((1 << PYMONITORING_COMPAT_TOOLS) - 1)

/* C_RETURN and C_RAISE need what a free-threaded build has no safe way to. */
#ifdef Py_GIL_DISABLED
#  define PYMONITORING_COMPAT_ANSWERS 0
#else
#  define PYMONITORING_COMPAT_ANSWERS 1
#endif

#ifdef Py_GIL_DISABLED
#  define PYMONITORING_COMPAT_ACTIVE(STATE) \
    _Py_atomic_load_uint8_relaxed(&(STATE)->active)
#else
#  define PYMONITORING_COMPAT_ACTIVE(STATE) ((STATE)->active)
#endif

/* A variable that the source files of an extension share, where the compiler
   can say so: one may disable what another fires. */
#ifdef _WIN32
#  define PYMONITORING_COMPAT_SHARED __declspec(selectany)
#elif defined(__GNUC__)
#  define PYMONITORING_COMPAT_SHARED \
    __attribute__((weak, visibility("hidden")))
#else
#  define PYMONITORING_COMPAT_SHARED static
#endif

/* One event on its way to the tools.  number is what stands for the location:
   the offset or, for LINE, the line. */
typedef struct {
    int id;
    const char *name;
    PyObject *codelike;
    int32_t offset;
    int number;
    int nargs;                      /* that callbacks get */
    PyObject *arg1;                 /* after code-like and number */
    PyObject *arg2;
    uint8_t told;                   /* tools, out */
    uint8_t disabled;               /* tools for which the location is, out */
} pymonitoring_compat_event;

static inline int
pymonitoring_compat_is_answer(int event)
{
    return event == PY_MONITORING_EVENT_C_RETURN
           || event == PY_MONITORING_EVENT_C_RAISE;
}

/* Does the event report the exception that is set? */
static inline int
pymonitoring_compat_is_exception(int event)
{
    switch (event) {
    case PY_MONITORING_EVENT_PY_THROW:
    case PY_MONITORING_EVENT_RAISE:
    case PY_MONITORING_EVENT_RERAISE:
    case PY_MONITORING_EVENT_EXCEPTION_HANDLED:
    case PY_MONITORING_EVENT_C_RAISE:
    case PY_MONITORING_EVENT_PY_UNWIND:
        return 1;
    default:
        return 0;
    }
}

/* A new reference to dict[key], or NULL; with an exception set on error. */
static inline PyObject *
pymonitoring_compat_get(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX < 0x030D0000
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#else
    PyObject *value;
    (void)PyDict_GetItemRef(dict, key, &value);
    return value;
#endif
}

static inline int
pymonitoring_compat_refers_to(PyObject *ref, PyObject *op)
{
#if PY_VERSION_HEX < 0x030D0000
    return PyWeakref_GetObject(ref) == op;
#else
    PyObject *referent;
    int alive = PyWeakref_GetRef(ref, &referent);
    Py_XDECREF(referent);
    return alive > 0 && referent == op;
#endif
}

/* An attribute of sys.monitoring: a new reference. */
static inline PyObject *
pymonitoring_compat_attribute(const char *name)
{
    PyObject *module = Py_XNewRef(PySys_GetObject("monitoring"));
    if (module == NULL) {
        /* Have it told what is wrong.  (This alone would not do: at the end of
           an interpreter there is no sys in sys.modules.) */
        PyObject *sys = PyImport_AddModule("sys");
        module = sys ? PyObject_GetAttrString(sys, "monitoring") : NULL;
    }
    PyObject *attribute = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return attribute;
}

/* Call a function of sys.monitoring. */
static inline PyObject *
pymonitoring_compat_call(const char *function, const char *format, ...)
{
    PyObject *callable = pymonitoring_compat_attribute(function);
    PyObject *args = NULL;
    PyObject *result = NULL;
    va_list list;
    va_start(list, format);
    if (callable != NULL) {
        args = Py_VaBuildValue(format, list);
    }
    va_end(list);
    if (args != NULL) {
        result = PyObject_CallObject(callable, args);
    }
    Py_XDECREF(args);
    Py_XDECREF(callable);
    return result;
}

/* sys.monitoring's DISABLE and MISSING, both immortal, and of the process. */
PYMONITORING_COMPAT_SHARED PyObject *pymonitoring_compat_disable = NULL;
PYMONITORING_COMPAT_SHARED PyObject *pymonitoring_compat_missing = NULL;

static inline int
pymonitoring_compat_constants(void)
{
    if (pymonitoring_compat_disable == NULL) {
        pymonitoring_compat_disable = pymonitoring_compat_attribute("DISABLE");
    }
    if (pymonitoring_compat_missing == NULL) {
        pymonitoring_compat_missing = pymonitoring_compat_attribute("MISSING");
    }
    return pymonitoring_compat_disable != NULL
           && pymonitoring_compat_missing != NULL ? 0 : -1;
}

#if PYMONITORING_COMPAT_TABLES

/* What is known of the tables: nothing yet, that they are where they should be
   as far as idle ones show it, that they are, or that they are not.
   Interpreters with a GIL of their own come to the same answer. */
enum {
    PYMONITORING_COMPAT_UNKNOWN,
    PYMONITORING_COMPAT_IDLE,
    PYMONITORING_COMPAT_GOOD,
    PYMONITORING_COMPAT_OFF
};
PYMONITORING_COMPAT_SHARED int pymonitoring_compat_status =
    PYMONITORING_COMPAT_UNKNOWN;

/* Is the interpreter's structure as large as it should be?  Its first thread
   is at its end; asked first, so that nothing behind it is read. */
static inline int
pymonitoring_compat_check_size(PyInterpreterState *interp)
{
    const uintptr_t expected = offsetof(PyInterpreterState, _initial_thread);
    int good = 1;
    for (PyThreadState *thread = PyInterpreterState_ThreadHead(interp);
         thread != NULL; thread = PyThreadState_Next(thread))
    {
        uintptr_t offset = (uintptr_t)thread - (uintptr_t)interp;
        if (offset == expected) {
            return 1;
        }
        /* Others are allocated, somewhere else. */
        if (offset + 0x10000 - expected < 0x20000) {
            good = 0;
        }
    }
    return good;
}

/* Is the table of callbacks where it should be?  Tried with an event that the
   tool does not listen to, which no one misses meanwhile. */
static inline int
pymonitoring_compat_check_callback(PyInterpreterState *interp, int tool,
                                   int event, PyObject *probe)
{
    PyObject **slot = &interp->monitoring_callables[tool][event];
    PyObject *before = *slot;
    PyObject *old = pymonitoring_compat_call("register_callback", "(iiO)",
                                             tool, 1 << event, probe);
    if (old == NULL) {
        return 0;
    }
    if (*slot == probe && before == (old == Py_None ? NULL : old)) {
        /* Put back what was there, which needs no memory. */
        *slot = before;
        Py_DECREF(probe);
        return 1;
    }
    PyObject *none = pymonitoring_compat_call("register_callback", "(iiO)",
                                              tool, 1 << event, old);
    Py_XDECREF(none);
    Py_DECREF(old);
    return 0;
}

/* Compare what the tables hold of one tool with what sys.monitoring says. */
static inline int
pymonitoring_compat_check_tool(PyInterpreterState *interp, int tool,
                               PyObject *probe, int *listens)
{
    PyObject *name = pymonitoring_compat_call("get_tool", "(i)", tool);
    if (name == NULL) {
        return 0;
    }
    PyObject *expected = name == Py_None ? NULL : name;
    Py_DECREF(name);
    if (interp->monitoring_tool_names[tool] != expected) {
        return 0;
    }
    unsigned long events = 0;
    PyObject *set = pymonitoring_compat_call("get_events", "(i)", tool);
    if (set != NULL) {
        events = PyLong_AsUnsignedLong(set);
        Py_DECREF(set);
        for (int e = 0; e < _PY_MONITORING_UNGROUPED_EVENTS; e++) {
            if ((interp->monitors.tools[e] >> tool & 1) != (events >> e & 1)) {
                return 0;
            }
        }
    }
    else if (expected == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        /* 3.12's later releases do not tell it of a tool that is not used. */
        PyErr_Clear();
    }
    *listens |= events != 0;
    /* The corners of the table. */
    return PyErr_Occurred() == NULL
        && (events >> PY_MONITORING_EVENT_PY_START & 1
            || pymonitoring_compat_check_callback(
                interp, tool, PY_MONITORING_EVENT_PY_START, probe))
        && (events >> PY_MONITORING_EVENT_CALL & 1
            || pymonitoring_compat_check_callback(
                interp, tool, PY_MONITORING_EVENT_C_RAISE, probe));
}

/* Check that the tables are what sys.monitoring says.  -1 if there is no
   memory to ask it, or if the warning is an exception. */
static inline int
pymonitoring_compat_check(PyInterpreterState *interp)
{
    PyObject *probe = PyList_New(0);
    int listens = 0;
    int good = probe != NULL
        && pymonitoring_compat_constants() == 0
        && pymonitoring_compat_check_size(interp)
        && interp->last_restart_version <= interp->monitoring_version;
    for (int tool = 0; good && tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        good = pymonitoring_compat_check_tool(interp, tool, probe, &listens);
    }
    if (listens && interp->monitoring_version == 0) {
        good = 0;
    }
    Py_XDECREF(probe);
    if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return -1;
    }
    PyErr_Clear();
    if (good) {
        pymonitoring_compat_status = listens ? PYMONITORING_COMPAT_GOOD
                                             : PYMONITORING_COMPAT_IDLE;
        return 0;
    }
    pymonitoring_compat_status = PYMONITORING_COMPAT_OFF;
    return PyErr_WarnFormat(
        PyExc_RuntimeWarning, 1,
        "the monitoring tables of this Python %d.%d.%d are not where an "
        "extension built for " PY_VERSION " looks for them: it signals no "
        "events", (int)(Py_Version >> 24 & 0xFF),
        (int)(Py_Version >> 16 & 0xFF), (int)(Py_Version >> 8 & 0xFF));
}

/* The tools that listen to the event now. */
static inline uint8_t
pymonitoring_compat_tools(PyInterpreterState *interp, int event)
{
    if (event == PY_MONITORING_EVENT_INSTRUCTION
        || pymonitoring_compat_status == PYMONITORING_COMPAT_OFF)
    {
        return 0;
    }
    if (pymonitoring_compat_is_answer(event)) {
        event = PY_MONITORING_EVENT_CALL;
    }
    return interp->monitors.tools[event] & PYMONITORING_COMPAT_TOOL_MASK;
}

static inline PyInterpreterState *
pymonitoring_compat_interp(void)
{
    return PyThreadState_Get()->interp;
}

/* What changes with the events of any tool; never 0. */
static inline uint64_t
pymonitoring_compat_version(PyInterpreterState *interp)
{
    return interp->monitoring_version << 1 | 1;
}

/* What changes when disabled locations are to be forgotten. */
static inline uint64_t
pymonitoring_compat_restart_version(PyInterpreterState *interp)
{
    return interp->last_restart_version;
}

/* The callback of a tool for an event: a new reference, or NULL. */
static inline PyObject *
pymonitoring_compat_callback(PyThreadState *tstate, int tool, int event)
{
    return Py_XNewRef(tstate->interp->monitoring_callables[tool][event]);
}

static inline void
pymonitoring_compat_remove_callback(PyThreadState *tstate, int tool, int event)
{
    Py_CLEAR(tstate->interp->monitoring_callables[tool][event]);
}

/* ------ What an interpreter has: 3.13 and later ------ */

#else

/* The exported word that marks an interpreter with the series: an extension
   that was built for a stock 3.13 may come to run on one. */
#if defined(__GNUC__) && !defined(_WIN32)
#  ifdef __cplusplus
extern "C"
#  else
extern
#  endif
const uintptr_t _PyMonitoring_Version __attribute__((weak));
#  define PYMONITORING_COMPAT_NATIVE() (&_PyMonitoring_Version != NULL)
#else
#  define PYMONITORING_COMPAT_NATIVE() 0
#endif

/* What changes with the events of any tool; never 0.  (The interpreter's low
   bits are free, and asking for no states costs little.) */
static inline uint64_t
pymonitoring_compat_version(PyInterpreterState *Py_UNUSED(interp))
{
    uint64_t version = 0;
    (void)PyMonitoring_EnterScope(NULL, &version, NULL, 0);
    return version | 1;
}

/* Not needed: the functions find it. */
static inline PyInterpreterState *
pymonitoring_compat_interp(void)
{
    return NULL;
}

/* What changes when disabled locations are to be forgotten.  No more than this
   is known of sys.monitoring.restart_events(). */
static inline uint64_t
pymonitoring_compat_restart_version(PyInterpreterState *interp)
{
    return pymonitoring_compat_version(interp);
}

/* The event whose tools get this one: the interpreter has no place for answers
   among its states. */
static inline uint8_t
pymonitoring_compat_known(int event)
{
    if (pymonitoring_compat_is_answer(event)) {
        return PYMONITORING_COMPAT_ANSWERS ? PY_MONITORING_EVENT_CALL
                                           : PY_MONITORING_EVENT_INSTRUCTION;
    }
    return (uint8_t)event;
}

/* Write the tools that listen to each event now; return the version. */
static inline uint64_t
pymonitoring_compat_read(PyMonitoringState *states, const uint8_t *event_types,
                         int length)
{
    uint64_t version = 0;
    memset(states, 0, (size_t)length * sizeof(PyMonitoringState));
    (void)PyMonitoring_EnterScope(states, &version, event_types, length);
    return version | 1;
}

/* The tools that listen to the event now. */
static inline uint8_t
pymonitoring_compat_tools(PyInterpreterState *Py_UNUSED(interp), int event)
{
    PyMonitoringState state;
    uint8_t event_type = pymonitoring_compat_known(event);
    (void)pymonitoring_compat_read(&state, &event_type, 1);
    return event_type == PY_MONITORING_EVENT_INSTRUCTION ? 0
        : state.active & PYMONITORING_COMPAT_TOOL_MASK;
}

/* The function of the interpreter for the event. */
static inline int
pymonitoring_compat_native(PyMonitoringState *state,
                           const pymonitoring_compat_event *event)
{
    PyObject *codelike = event->codelike;
    int32_t offset = event->offset;
    switch (event->id) {
    case PY_MONITORING_EVENT_PY_START:
        return PyMonitoring_FirePyStartEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_PY_RESUME:
        return PyMonitoring_FirePyResumeEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_PY_RETURN:
        return PyMonitoring_FirePyReturnEvent(state, codelike, offset,
                                              event->arg1);
    case PY_MONITORING_EVENT_PY_YIELD:
        return PyMonitoring_FirePyYieldEvent(state, codelike, offset,
                                             event->arg1);
    case PY_MONITORING_EVENT_CALL:
        return PyMonitoring_FireCallEvent(state, codelike, offset, event->arg1,
                                          event->arg2);
    case PY_MONITORING_EVENT_LINE:
        return PyMonitoring_FireLineEvent(state, codelike, offset,
                                          event->number);
    case PY_MONITORING_EVENT_JUMP:
        return PyMonitoring_FireJumpEvent(state, codelike, offset,
                                          event->arg1);
#if PY_VERSION_HEX >= 0x030E0000
    case PY_MONITORING_EVENT_BRANCH_LEFT:
        return PyMonitoring_FireBranchLeftEvent(state, codelike, offset,
                                                event->arg1);
    case PY_MONITORING_EVENT_BRANCH_RIGHT:
        return PyMonitoring_FireBranchRightEvent(state, codelike, offset,
                                                 event->arg1);
#else
    case PY_MONITORING_EVENT_BRANCH:
        return PyMonitoring_FireBranchEvent(state, codelike, offset,
                                            event->arg1);
#endif
    case PY_MONITORING_EVENT_C_RETURN:
        return PyMonitoring_FireCReturnEvent(state, codelike, offset,
                                             event->arg1);
    case PY_MONITORING_EVENT_C_RAISE:
        return PyMonitoring_FireCRaiseEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_PY_THROW:
        return PyMonitoring_FirePyThrowEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_RAISE:
        return PyMonitoring_FireRaiseEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_RERAISE:
        return PyMonitoring_FireReraiseEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_EXCEPTION_HANDLED:
        return PyMonitoring_FireExceptionHandledEvent(state, codelike, offset);
    case PY_MONITORING_EVENT_PY_UNWIND:
        return PyMonitoring_FirePyUnwindEvent(state, codelike, offset);
    default:
        return PyMonitoring_FireStopIterationEvent(state, codelike, offset,
                                                   event->arg1);
    }
}

#if PYMONITORING_COMPAT_ANSWERS

/* The callback of a tool for an event: a new reference, or NULL, with an
   exception set on error.  Only what replaces it is told of it, so it is taken
   away and put back.  Threads do not come between, but audit hooks do: what is
   registered meanwhile stays. */
static inline PyObject *
pymonitoring_compat_callback(PyThreadState *Py_UNUSED(tstate), int tool,
                             int event)
{
    const size_t nargs = 3 | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *callback = NULL;
    PyObject *replace = pymonitoring_compat_attribute("register_callback");
    PyObject *args[4] = {
        NULL, PyLong_FromLong(tool), PyLong_FromLong(1L << event), Py_None,
    };
    if (replace != NULL && args[1] != NULL && args[2] != NULL) {
        callback = PyObject_Vectorcall(replace, args + 1, nargs, NULL);
    }
    if (callback != NULL && callback != Py_None) {
        /* From here on no memory is needed. */
        args[3] = callback;
        PyObject *newer = PyObject_Vectorcall(replace, args + 1, nargs, NULL);
        if (newer != NULL && newer != Py_None) {
            args[3] = newer;
            Py_XDECREF(PyObject_Vectorcall(replace, args + 1, nargs, NULL));
        }
        Py_XDECREF(newer);
    }
    if (callback == Py_None || PyErr_Occurred()) {
        Py_CLEAR(callback);
    }
    Py_XDECREF(replace);
    Py_XDECREF(args[1]);
    Py_XDECREF(args[2]);
    return callback;
}

static inline void
pymonitoring_compat_remove_callback(PyThreadState *Py_UNUSED(tstate), int tool,
                                    int event)
{
    Py_XDECREF(pymonitoring_compat_call("register_callback", "(iiO)", tool,
                                        1 << event, Py_None));
}

#endif

#endif

/* ------ Calling the tools ------ */

#if PYMONITORING_COMPAT_ANSWERS

/* Call the tools' callbacks.  Returns those that answered DISABLE, or -1. */
static inline int
pymonitoring_compat_call_callbacks(PyThreadState *tstate,
                                   const pymonitoring_compat_event *event,
                                   uint8_t tools)
{
    if (pymonitoring_compat_constants() < 0) {
        return -1;
    }
    PyObject *missing = pymonitoring_compat_missing;
    PyObject *args[5] = {
        NULL, event->codelike, PyLong_FromLong(event->number),
        event->arg1 ? event->arg1 : missing,
        event->arg2 ? event->arg2 : missing,
    };
    if (args[2] == NULL) {
        return -1;
    }
    int disabling = 0;
    int old_what = tstate->what_event;
    /* No frame's f_lineno may be set: none is at a line of this event. */
    tstate->what_event = -1;
    tstate->tracing++;
    for (int tool = PYMONITORING_COMPAT_TOOLS - 1; tool >= 0; tool--) {
        if (!(tools >> tool & 1)) {
            continue;
        }
        PyObject *callback = pymonitoring_compat_callback(tstate, tool,
                                                          event->id);
        if (callback == NULL) {
            if (PyErr_Occurred()) {
                disabling = -1;
                break;
            }
            continue;
        }
        PyObject *res = PyObject_Vectorcall(
            callback, args + 1,
            (size_t)event->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(callback);
        Py_XDECREF(res);
        if (res == NULL) {
            disabling = -1;
            break;
        }
        if (res != pymonitoring_compat_disable) {
            continue;
        }
        if (!PY_MONITORING_IS_INSTRUMENTED_EVENT(event->id)) {
            /* Left in place, the callback would raise again and again. */
            pymonitoring_compat_remove_callback(tstate, tool, event->id);
            PyErr_Format(PyExc_ValueError,
                         "Cannot disable %s events. Callback removed.",
                         event->name);
            disabling = -1;
            break;
        }
        disabling |= 1 << tool;
    }
    tstate->tracing--;
    tstate->what_event = old_what;
    Py_DECREF(args[2]);
    return disabling;
}

#endif

#if PYMONITORING_COMPAT_TABLES
#  define pymonitoring_compat_call_tools pymonitoring_compat_call_callbacks
#else

/* The same, by the interpreter's function where that has the arguments. */
static inline int
pymonitoring_compat_call_tools(PyThreadState *tstate,
                               const pymonitoring_compat_event *event,
                               uint8_t tools)
{
#if PYMONITORING_COMPAT_ANSWERS
    if (pymonitoring_compat_is_answer(event->id)) {
        return pymonitoring_compat_call_callbacks(tstate, event, tools);
    }
#else
    (void)tstate;
#endif
    PyMonitoringState state = {tools, 0};
    if (pymonitoring_compat_is_exception(event->id)) {
        PyErr_SetRaisedException(Py_NewRef(event->arg1));
    }
    if (pymonitoring_compat_native(&state, event) < 0) {
        return -1;
    }
    return tools & ~state.active;
}

#endif

/* ------ Disabled locations ------ */

/* Locks for what threads would otherwise write together. */
#ifdef Py_GIL_DISABLED
#  define PYMONITORING_COMPAT_LOCK(MUTEX) PyMutex_Lock(MUTEX)
#  define PYMONITORING_COMPAT_UNLOCK(MUTEX) PyMutex_Unlock(MUTEX)
#else
#  define PYMONITORING_COMPAT_LOCK(MUTEX)
#  define PYMONITORING_COMPAT_UNLOCK(MUTEX)
#endif

/* What one interpreter knows, in its dict.  For each tool that ever disabled
   one: the name it had, and a dict from the id of a code-like to (weak
   reference, dict of locations).  (An addition to a set may fail half
   done.)  All extensions share it, each with its own copy of this header:
   another layout, or another meaning, needs another key. */
typedef struct {
#ifdef Py_GIL_DISABLED
    PyMutex mutex;
#endif
    uint64_t version;               /* that it holds for */
    PyObject *get_tool;             /* sys.monitoring's */
    PyObject *names[PYMONITORING_COMPAT_TOOLS];
    PyObject *disabled[PYMONITORING_COMPAT_TOOLS];
} pymonitoring_compat_locations;

#define PYMONITORING_COMPAT_KEY "pymonitoring_compat 1"

/* Did any location become disabled?  Until then nothing is looked up. */
PYMONITORING_COMPAT_SHARED int pymonitoring_compat_any_disabled = 0;

static inline int
pymonitoring_compat_is_any_disabled(void)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_int_relaxed(&pymonitoring_compat_any_disabled);
#else
    return pymonitoring_compat_any_disabled;
#endif
}

static inline void
pymonitoring_compat_set_any_disabled(void)
{
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_int_relaxed(&pymonitoring_compat_any_disabled, 1);
#else
    pymonitoring_compat_any_disabled = 1;
#endif
}

static inline void
pymonitoring_compat_free_locations(PyObject *capsule)
{
    pymonitoring_compat_locations *locations =
        (pymonitoring_compat_locations *)PyCapsule_GetPointer(
            capsule, PYMONITORING_COMPAT_KEY);
    Py_XDECREF(locations->get_tool);
    for (int tool = 0; tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        Py_XDECREF(locations->names[tool]);
        /* Weak references hold their dict. */
        if (locations->disabled[tool] != NULL) {
            PyDict_Clear(locations->disabled[tool]);
            Py_DECREF(locations->disabled[tool]);
        }
    }
    PyMem_Free(locations);
}

/* The locations of the interpreter; NULL with an exception set on error. */
static inline pymonitoring_compat_locations *
pymonitoring_compat_get_locations(PyInterpreterState *interp)
{
    PyObject *dict = PyInterpreterState_GetDict(interp);
    PyObject *key = PyUnicode_FromString(PYMONITORING_COMPAT_KEY);
    PyObject *capsule = NULL;
    pymonitoring_compat_locations *locations = NULL;
    if (dict == NULL || key == NULL) {
        goto done;
    }
    capsule = pymonitoring_compat_get(dict, key);
    if (capsule != NULL || PyErr_Occurred()) {
        goto done;
    }
    locations = (pymonitoring_compat_locations *)PyMem_Calloc(
        1, sizeof(pymonitoring_compat_locations));
    if (locations == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    capsule = PyCapsule_New(locations, PYMONITORING_COMPAT_KEY,
                            pymonitoring_compat_free_locations);
    if (capsule == NULL) {
        PyMem_Free(locations);
        goto done;
    }
    locations->get_tool = pymonitoring_compat_attribute("get_tool");
    if (locations->get_tool == NULL) {
        Py_CLEAR(capsule);
        goto done;
    }
    /* Another thread may have been first. */
    Py_SETREF(capsule, Py_XNewRef(PyDict_SetDefault(dict, key, capsule)));
done:
    locations = NULL;
    if (capsule != NULL) {
        locations = (pymonitoring_compat_locations *)PyCapsule_GetPointer(
            capsule, PYMONITORING_COMPAT_KEY);
        Py_DECREF(capsule);         /* the dict keeps it */
    }
    else if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    Py_XDECREF(key);
    return locations;
}

/* The name of a tool, None for none: a new reference; NULL on error. */
static inline PyObject *
pymonitoring_compat_tool_name(pymonitoring_compat_locations *locations,
                              int tool)
{
    PyObject *number = PyLong_FromLong(tool);
    PyObject *name = number ? PyObject_CallOneArg(locations->get_tool, number)
                            : NULL;
    Py_XDECREF(number);
    return name;
}

/* Forget what no longer holds, or return -1.  names gets new references to
   those of the tools with locations: the last one may go with them, and what
   its finalizer does must not find the lock held. */
static inline int
pymonitoring_compat_update_locations(PyInterpreterState *interp,
                                     pymonitoring_compat_locations *locations,
                                     PyObject **names)
{
    uint64_t version = pymonitoring_compat_restart_version(interp);
    for (int tool = 0; tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        PyObject *dict = locations->disabled[tool];
        if (dict == NULL || PyDict_GET_SIZE(dict) == 0) {
            continue;
        }
        names[tool] = pymonitoring_compat_tool_name(locations, tool);
        if (names[tool] == NULL) {
            return -1;
        }
        if (version != locations->version
            || names[tool] != locations->names[tool])
        {
            PyDict_Clear(dict);
        }
    }
    locations->version = version;
    return 0;
}

static inline void
pymonitoring_compat_drop_names(PyObject **names)
{
    for (int tool = 0; tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        Py_XDECREF(names[tool]);
    }
}

/* The weak reference of a code-like died: self is (dict, id). */
static inline PyObject *
pymonitoring_compat_forget(PyObject *self, PyObject *ref)
{
    PyObject *dict = PyTuple_GET_ITEM(self, 0);
    PyObject *id = PyTuple_GET_ITEM(self, 1);
    PyObject *entry = pymonitoring_compat_get(dict, id);
    if (entry != NULL && PyTuple_GET_ITEM(entry, 0) == ref) {
        (void)PyDict_DelItem(dict, id);
    }
    Py_XDECREF(entry);
    /* Another thread may have been first. */
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static PyMethodDef pymonitoring_compat_forget_def = {
    "forget", pymonitoring_compat_forget, METH_O, NULL
};

/* The dict of disabled locations of a code-like, to which location is added
   unless it is NULL; NULL if there is none, with an exception set on error. */
static inline PyObject *
pymonitoring_compat_locations_of(PyObject *dict, PyObject *codelike,
                                 PyObject *location)
{
    PyObject *result = NULL;
    PyObject *self = NULL;
    PyObject *callback = NULL;
    PyObject *ref = NULL;
    PyObject *entry = NULL;
    PyObject *id = PyLong_FromVoidPtr(codelike);
    if (id == NULL) {
        return NULL;
    }
    entry = pymonitoring_compat_get(dict, id);
    if (entry != NULL) {
        /* An address may be used again. */
        if (pymonitoring_compat_refers_to(PyTuple_GET_ITEM(entry, 0),
                                          codelike))
        {
            result = Py_NewRef(PyTuple_GET_ITEM(entry, 1));
            if (location != NULL
                && PyDict_SetItem(result, location, Py_None) < 0)
            {
                Py_CLEAR(result);
            }
            goto done;
        }
        Py_CLEAR(entry);
    }
    if (location == NULL || PyErr_Occurred()) {
        goto done;
    }
    if ((self = PyTuple_Pack(2, dict, id)) == NULL
        || (callback = PyCFunction_New(&pymonitoring_compat_forget_def,
                                       self)) == NULL
        || (ref = PyWeakref_NewRef(codelike, callback)) == NULL
        || (result = PyDict_New()) == NULL
        || PyDict_SetItem(result, location, Py_None) < 0
        || (entry = PyTuple_Pack(2, ref, result)) == NULL
        || PyDict_SetItem(dict, id, entry) < 0)
    {
        Py_CLEAR(result);
    }
done:
    Py_DECREF(id);
    Py_XDECREF(self);
    Py_XDECREF(callback);
    Py_XDECREF(ref);
    Py_XDECREF(entry);
    return result;
}

static inline PyObject *
pymonitoring_compat_location(const pymonitoring_compat_event *event)
{
    return PyLong_FromUnsignedLongLong(
        (unsigned long long)event->id << 32 | (uint32_t)event->number);
}

/* Those of the tools for which the location is disabled; -1 on error. */
static inline int
pymonitoring_compat_disabled_tools(PyInterpreterState *interp,
                                   const pymonitoring_compat_event *event,
                                   uint8_t tools)
{
    int disabled = 0;
    PyObject *names[PYMONITORING_COMPAT_TOOLS] = {NULL};
    pymonitoring_compat_locations *locations =
        pymonitoring_compat_get_locations(interp);
    PyObject *location = pymonitoring_compat_location(event);
    if (locations == NULL || location == NULL) {
        Py_XDECREF(location);
        return -1;
    }
    PYMONITORING_COMPAT_LOCK(&locations->mutex);
    int err = pymonitoring_compat_update_locations(interp, locations,
                                                   names);
    for (int tool = 0; !err && tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        PyObject *dict = locations->disabled[tool];
        if (!(tools >> tool & 1) || dict == NULL
            || PyDict_GET_SIZE(dict) == 0)
        {
            continue;
        }
        PyObject *found = pymonitoring_compat_locations_of(
            dict, event->codelike, NULL);
        if (found != NULL && PyDict_Contains(found, location) > 0) {
            disabled |= 1 << tool;
        }
        Py_XDECREF(found);
        err = PyErr_Occurred() ? -1 : 0;
    }
    PYMONITORING_COMPAT_UNLOCK(&locations->mutex);
    pymonitoring_compat_drop_names(names);
    Py_DECREF(location);
    return err < 0 ? err : disabled;
}

/* Disable the location for the tools, or return -1. */
static inline int
pymonitoring_compat_disable_location(PyInterpreterState *interp,
                                     const pymonitoring_compat_event *event,
                                     uint8_t tools)
{
    PyObject *names[PYMONITORING_COMPAT_TOOLS] = {NULL};
    pymonitoring_compat_locations *locations =
        pymonitoring_compat_get_locations(interp);
    PyObject *location = pymonitoring_compat_location(event);
    if (locations == NULL || location == NULL) {
        Py_XDECREF(location);
        return -1;
    }
    PYMONITORING_COMPAT_LOCK(&locations->mutex);
    int err = pymonitoring_compat_update_locations(interp, locations,
                                                   names);
    for (int tool = 0; !err && tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        if (!(tools >> tool & 1)) {
            continue;
        }
        PyObject **dict = &locations->disabled[tool];
        err = -1;
        if (names[tool] == NULL) {
            names[tool] = pymonitoring_compat_tool_name(locations, tool);
        }
        if (*dict == NULL) {
            *dict = PyDict_New();
        }
        if (names[tool] != NULL && *dict != NULL) {
            PyObject *old = locations->names[tool];
            locations->names[tool] = names[tool];
            names[tool] = old;
            PyObject *found = pymonitoring_compat_locations_of(
                *dict, event->codelike, location);
            err = found != NULL ? 0 : -1;
            Py_XDECREF(found);
        }
    }
    PYMONITORING_COMPAT_UNLOCK(&locations->mutex);
    pymonitoring_compat_drop_names(names);
    pymonitoring_compat_set_any_disabled();
    Py_DECREF(location);
    return err;
}

/* ------ The pending exception ------ */

/* The exception in the chain of contexts from start whose context is exc
   (NULL: the last one of the chain); NULL if there is none.  Assignments to
   __context__ can make a ring, whose end is where `slow` is overtaken. */
static inline PyObject *
pymonitoring_compat_find_context(PyObject *start, PyObject *exc)
{
    PyObject *slow = start;
    PyObject *link = start;
    for (int odd = 0;; odd = !odd) {
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
    }
}

/* Make the exception that is set carry the pending one: its place in the chain
   of contexts is before what was being handled when it was set.  Steals the
   reference to pending, which may be NULL. */
static inline void
pymonitoring_compat_chain(PyObject *pending)
{
    PyObject *raised;
    PyObject *link;
    if (pending == NULL) {
        return;
    }
    raised = PyErr_GetRaisedException();
    if (raised == pending
        || pymonitoring_compat_find_context(raised, pending) != NULL)
    {
        Py_DECREF(pending);
        PyErr_SetRaisedException(raised);
        return;
    }
    /* A callback may raise what pending has as a context: cut it out, or the
       chain would become a ring. */
    link = pymonitoring_compat_find_context(pending, raised);
    if (link != NULL) {
        PyException_SetContext(link, NULL);
    }
    link = raised;
    if (pymonitoring_compat_find_context(raised, NULL) != NULL) {
        PyObject *handled = PyErr_GetHandledException();
        PyObject *context;
        while ((context = ((PyBaseExceptionObject *)link)->context) != NULL
               && context != handled
               && pymonitoring_compat_find_context(pending, context) == NULL)
        {
            link = context;
        }
        Py_XDECREF(handled);
    }
    PyException_SetContext(link, pending);
    PyErr_SetRaisedException(raised);
}

/* ------ Firing ------ */

/* Tell the tools of an event whose arguments are good.  Called, and returns
   when there is no error, without an exception set. */
static inline int
pymonitoring_compat_tell(PyThreadState *tstate, PyMonitoringState *state,
                         pymonitoring_compat_event *event, uint8_t tools)
{
    int can_disable = PY_MONITORING_IS_INSTRUMENTED_EVENT(event->id);
    int disabled = 0;
    if (can_disable && pymonitoring_compat_is_any_disabled()) {
        disabled = pymonitoring_compat_disabled_tools(tstate->interp, event,
                                                      tools);
        if (disabled < 0) {
            return -1;
        }
    }
    event->disabled = (uint8_t)disabled;
    event->told = tools & (uint8_t)~disabled;
    if (event->told == 0) {
        return 0;
    }
    disabled = pymonitoring_compat_call_tools(tstate, event, event->told);
    if (disabled <= 0) {
        return disabled;
    }
    if (Py_TYPE(event->codelike)->tp_weaklistoffset != 0) {
        return pymonitoring_compat_disable_location(tstate->interp, event,
                                                    (uint8_t)disabled);
    }
    /* For the state, until it is next written. */
#ifdef Py_GIL_DISABLED
    (void)_Py_atomic_and_uint8(&state->active, (uint8_t)~disabled);
#else
    state->active &= (uint8_t)~disabled;
#endif
    return 0;
}

static inline int
pymonitoring_compat_fire(PyMonitoringState *state,
                         pymonitoring_compat_event *event)
{
#if !PYMONITORING_COMPAT_TABLES
    if (PYMONITORING_COMPAT_NATIVE()) {
        return pymonitoring_compat_native(state, event);
    }
#endif
    PyThreadState *tstate = PyThreadState_Get();
    if (tstate->tracing) {
        return 0;
    }
    uint8_t tools = PYMONITORING_COMPAT_ACTIVE(state)
                    & pymonitoring_compat_tools(tstate->interp, event->id);
    if (tools == 0) {
        return 0;
    }
    int err = -1;
    PyObject *stop = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    if (event->offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event->name, (int)event->offset);
        goto done;
    }
    if (pymonitoring_compat_is_exception(event->id)) {
        if (pending == NULL) {
            PyErr_Format(PyExc_ValueError,
                         "Firing event %d with no exception set", event->id);
            goto done;
        }
        if (!pymonitoring_compat_is_answer(event->id)) {
            event->arg1 = pending;
        }
    }
    if (event->id == PY_MONITORING_EVENT_STOP_ITERATION
        && !PyObject_TypeCheck(event->arg1,
                               (PyTypeObject *)PyExc_StopIteration))
    {
        stop = event->arg1 = PyObject_CallOneArg(PyExc_StopIteration,
                                                 event->arg1);
        if (stop == NULL) {
            goto done;
        }
    }
    err = pymonitoring_compat_tell(tstate, state, event, tools);
done:
    Py_XDECREF(stop);
    if (err == 0) {
        PyErr_SetRaisedException(pending);
    }
    else {
        pymonitoring_compat_chain(pending);
    }
    return err;
}

/* ------ Answers to calls: C_RETURN and C_RAISE ------ */

#if PYMONITORING_COMPAT_ANSWERS

/* Was any call kept for its answer?  Until then scopes are not counted. */
PYMONITORING_COMPAT_SHARED int pymonitoring_compat_any_call = 0;

/* What is kept of the calls of a thread, whose scopes may never be exited. */
#define PYMONITORING_COMPAT_MOST_CALLS 10000

/* The tools that want answers, as far as it is known. */
static inline uint8_t
pymonitoring_compat_answer_tools(PyInterpreterState *interp)
{
#if PYMONITORING_COMPAT_TABLES
    uint8_t tools = 0;
    for (int tool = 0; tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        PyObject **callbacks = interp->monitoring_callables[tool];
        if (callbacks[PY_MONITORING_EVENT_C_RETURN] != NULL
            || callbacks[PY_MONITORING_EVENT_C_RAISE] != NULL)
        {
            tools |= (uint8_t)(1 << tool);
        }
    }
    return tools;
#else
    return pymonitoring_compat_tools(interp, PY_MONITORING_EVENT_CALL);
#endif
}

/* What this thread's calls wait in, a borrowed reference: a list of the depth
   of scopes and a tuple (reference to the code-like, [callable, argument],
   depth, tools that disabled the CALL) for each.  NULL with an exception set
   on error.  Each extension has its own: they do not begin to count scopes at
   the same time. */
static inline PyObject *
pymonitoring_compat_calls(void)
{
    PyObject *dict = PyThreadState_GetDict();
    PyObject *key = PyLong_FromVoidPtr(&pymonitoring_compat_any_call);
    PyObject *calls = NULL;
    if (dict != NULL && key != NULL) {
        calls = PyDict_GetItemWithError(dict, key);
        if (calls == NULL && !PyErr_Occurred()) {
            calls = Py_BuildValue("[i]", 0);
            if (calls != NULL) {
                int err = PyDict_SetItem(dict, key, calls);
                Py_DECREF(calls);   /* the dict keeps it */
                calls = err < 0 ? NULL : calls;
            }
        }
    }
    Py_XDECREF(key);
    if (calls == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    return calls;
}

static inline long
pymonitoring_compat_depth(PyObject *calls)
{
    return PyLong_AsLong(PyList_GET_ITEM(calls, 0));
}

/* The innermost scope is entered (change 1) or exited (-1), and what waits in
   one that is exited dropped.  Keeps an exception that is set. */
static inline void
pymonitoring_compat_count_scope(PyInterpreterState *interp, int change)
{
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *calls = pymonitoring_compat_calls();
    if (calls != NULL) {
        int wanted = pymonitoring_compat_answer_tools(interp) != 0;
        long depth = pymonitoring_compat_depth(calls);
        Py_ssize_t size = PyList_GET_SIZE(calls);
        Py_ssize_t keep = wanted ? size : 1;
        while (change < 0 && keep > 1) {
            PyObject *call = PyList_GET_ITEM(calls, keep - 1);
            if (PyLong_AsLong(PyTuple_GET_ITEM(call, 2)) < depth) {
                break;
            }
            keep--;
        }
        depth = wanted ? Py_MAX(depth + change, 0) : 0;
        PyObject *number = PyLong_FromLong(depth);
        if (number != NULL) {
            (void)PyList_SetItem(calls, 0, number);
        }
        (void)PyList_SetSlice(calls, keep, size, NULL);
    }
    PyErr_SetRaisedException(pending);
}

/* The weak reference of a code-like died: self is [callable, argument]. */
static inline PyObject *
pymonitoring_compat_drop_call(PyObject *self, PyObject *Py_UNUSED(ref))
{
    return PyList_SetSlice(self, 0, 2, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef pymonitoring_compat_drop_call_def = {
    "drop_call", pymonitoring_compat_drop_call, METH_O, NULL
};

/* What stands for a code-like among the calls: a new reference. */
static inline PyObject *
pymonitoring_compat_call_ref(PyObject *codelike, PyObject *kept)
{
    if (Py_TYPE(codelike)->tp_weaklistoffset == 0) {
        return PyLong_FromVoidPtr(codelike);
    }
    PyObject *callback = PyCFunction_New(&pymonitoring_compat_drop_call_def,
                                         kept);
    PyObject *ref = callback ? PyWeakref_NewRef(codelike, callback) : NULL;
    Py_XDECREF(callback);
    return ref;
}

/* Keep a call that was told for its answer. */
static inline int
pymonitoring_compat_keep_call(PyThreadState *tstate,
                              const pymonitoring_compat_event *event)
{
    PyObject *function = PyMethod_Check(event->arg1)
                         ? PyMethod_GET_FUNCTION(event->arg1) : event->arg1;
    uint8_t wanted = pymonitoring_compat_answer_tools(tstate->interp);
    int told = event->told & wanted;
    int disabled = event->disabled & wanted;
    if (!(told | disabled) || PyFunction_Check(function)) {
        return 0;
    }
    pymonitoring_compat_any_call = 1;
    int err = -1;
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *calls = pymonitoring_compat_calls();
    PyObject *kept = !told ? PyList_New(0)
        : Py_BuildValue("[OO]", event->arg1, event->arg2);
    PyObject *ref = kept ? pymonitoring_compat_call_ref(event->codelike, kept)
                         : NULL;
    if (calls != NULL && ref != NULL) {
        PyObject *call = Py_BuildValue("(OOli)", ref, kept,
                                       pymonitoring_compat_depth(calls),
                                       disabled);
        if (call != NULL) {
            err = PyList_Append(calls, call);
            Py_DECREF(call);
        }
        if (PyList_GET_SIZE(calls) > PYMONITORING_COMPAT_MOST_CALLS) {
            err |= PyList_SetSlice(calls, 1, 2, NULL);
        }
    }
    Py_XDECREF(kept);
    Py_XDECREF(ref);
    if (err < 0) {
        pymonitoring_compat_chain(pending);
    }
    else {
        PyErr_SetRaisedException(pending);
    }
    return err;
}

/* Take this thread's newest waiting call for the code-like: a new reference,
   or NULL. */
static inline PyObject *
pymonitoring_compat_take_call(PyObject *codelike)
{
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *calls = pymonitoring_compat_calls();
    PyObject *found = NULL;
    for (Py_ssize_t i = calls ? PyList_GET_SIZE(calls) - 1 : 0; i > 0; i--) {
        PyObject *call = PyList_GET_ITEM(calls, i);
        PyObject *ref = PyTuple_GET_ITEM(call, 0);
        if (PyLong_Check(ref) ? PyLong_AsVoidPtr(ref) == (void *)codelike
                              : pymonitoring_compat_refers_to(ref, codelike))
        {
            found = Py_NewRef(call);
            (void)PyList_SetSlice(calls, i, i + 1, NULL);
            break;
        }
    }
    PyErr_SetRaisedException(pending);
    return found;
}

static inline int
pymonitoring_compat_fire_call(PyMonitoringState *state,
                              pymonitoring_compat_event *event)
{
    int err = pymonitoring_compat_fire(state, event);
    if (err == 0 && (event->told | event->disabled)) {
        err = pymonitoring_compat_keep_call(PyThreadState_Get(), event);
    }
    return err;
}

/* Fire an answer with what its call was told of. */
static inline int
pymonitoring_compat_fire_answer(PyMonitoringState *state,
                                pymonitoring_compat_event *event)
{
#if !PYMONITORING_COMPAT_TABLES
    if (PYMONITORING_COMPAT_NATIVE()) {
        return pymonitoring_compat_native(state, event);
    }
#endif
    /* Without a call it is MISSING. */
    event->arg1 = NULL;
    PyMonitoringState answered = *state;
    PyObject *call = NULL;
    if (pymonitoring_compat_any_call && !PyThreadState_Get()->tracing) {
        call = pymonitoring_compat_take_call(event->codelike);
    }
    if (call != NULL) {
        PyObject *kept = PyTuple_GET_ITEM(call, 1);
        if (PyList_GET_SIZE(kept) > 0) {
            event->arg1 = PyList_GET_ITEM(kept, 0);
            event->arg2 = PyList_GET_ITEM(kept, 1);
        }
        answered.active &= (uint8_t)~PyLong_AsLong(PyTuple_GET_ITEM(call, 3));
    }
    int err = pymonitoring_compat_fire(&answered, event);
    Py_XDECREF(call);
    return err;
}

#else

/* No answers are told, so that no calls need to be kept. */
#define pymonitoring_compat_fire_call pymonitoring_compat_fire
#define pymonitoring_compat_fire_answer pymonitoring_compat_fire

#endif


/* ------ The API: scopes ------ */

#ifdef Py_GIL_DISABLED
/* Held while states and their version are written. */
PYMONITORING_COMPAT_SHARED PyMutex pymonitoring_compat_mutex = {0};
#endif

/* Write the states, none or more and all of known event types; return what
   they hold for. */
static inline uint64_t
pymonitoring_compat_write_states(PyInterpreterState *interp,
                                 PyMonitoringState *state_array,
                                 const uint8_t *event_types, Py_ssize_t length)
{
#if PYMONITORING_COMPAT_TABLES
    for (Py_ssize_t i = 0; i < length; i++) {
        state_array[i].active = pymonitoring_compat_tools(interp,
                                                          event_types[i]);
        state_array[i].opaque = 0;
    }
    return pymonitoring_compat_version(interp);
#else
    PyMonitoringState states[32];
    uint8_t types[32];
    uint64_t version = 0;
    (void)interp;
    do {
        int size = length < 32 ? (int)length : 32;
        for (int i = 0; i < size; i++) {
            types[i] = pymonitoring_compat_known(event_types[i]);
        }
        uint64_t current = pymonitoring_compat_read(states, types, size);
        version = version ? version : current;
        for (int i = 0; i < size; i++) {
            uint8_t active = types[i] == PY_MONITORING_EVENT_INSTRUCTION ? 0
                : states[i].active & PYMONITORING_COMPAT_TOOL_MASK;
#ifdef Py_GIL_DISABLED
            _Py_atomic_store_uint8_relaxed(&state_array[i].active, active);
            _Py_atomic_store_uint8_relaxed(&state_array[i].opaque, 0);
#else
            state_array[i].active = active;
            state_array[i].opaque = 0;
#endif
        }
        state_array += size;
        event_types += size;
        length -= size;
    } while (length > 0);
    return version;
#endif
}

/* Refuse event types that are none. */
static inline int
pymonitoring_compat_check_types(const uint8_t *event_types, Py_ssize_t length)
{
    for (Py_ssize_t i = 0; i < length; i++) {
        if (event_types[i] > PY_MONITORING_EVENT_C_RAISE) {
            PyObject *pending = PyErr_GetRaisedException();
            PyErr_Format(PyExc_ValueError,
                         "event_types[%zd] is %d, which is no event type",
                         i, event_types[i]);
            pymonitoring_compat_chain(pending);
            return -1;
        }
    }
    return 0;
}

#if PYMONITORING_COMPAT_TABLES
/* Check the tables at first use, and when a tool first listens. */
static inline int
pymonitoring_compat_check_tables(PyInterpreterState *interp)
{
    static const uint8_t idle[sizeof(interp->monitors.tools)] = {0};
    if (pymonitoring_compat_status == PYMONITORING_COMPAT_UNKNOWN
        || (pymonitoring_compat_status == PYMONITORING_COMPAT_IDLE
            && memcmp(interp->monitors.tools, idle, sizeof(idle)) != 0))
    {
        PyObject *pending = PyErr_GetRaisedException();
        if (pymonitoring_compat_check(interp) < 0) {
            pymonitoring_compat_chain(pending);
            return -1;
        }
        PyErr_SetRaisedException(pending);
    }
    return 0;
}
#endif

static inline int
pymonitoring_compat_update_states(PyInterpreterState *interp,
                                  PyMonitoringState *state_array,
                                  uint64_t *version,
                                  const uint8_t *event_types,
                                  Py_ssize_t length)
{
    assert(length >= 0);
    if (pymonitoring_compat_check_types(event_types, length) < 0) {
        return -1;
    }
#if PYMONITORING_COMPAT_TABLES
    if (pymonitoring_compat_status != PYMONITORING_COMPAT_GOOD
        && pymonitoring_compat_check_tables(interp) < 0)
    {
        return -1;
    }
#endif
    PYMONITORING_COMPAT_LOCK(&pymonitoring_compat_mutex);
    uint64_t current = pymonitoring_compat_write_states(
        interp, state_array, event_types, length);
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint64_release(version, current);
#else
    *version = current;
#endif
    PYMONITORING_COMPAT_UNLOCK(&pymonitoring_compat_mutex);
    return 0;
}

static inline int
pymonitoring_compat_EnterScope(PyMonitoringState *state_array,
                               uint64_t *version, const uint8_t *event_types,
                               Py_ssize_t length)
{
#if !PYMONITORING_COMPAT_TABLES
    if (PYMONITORING_COMPAT_NATIVE()) {
        return PyMonitoring_EnterScope(state_array, version, event_types,
                                       length);
    }
#endif
    PyInterpreterState *interp = pymonitoring_compat_interp();
#ifdef Py_GIL_DISABLED
    uint64_t entered = _Py_atomic_load_uint64_acquire(version);
#else
    uint64_t entered = *version;
#endif
    if ((entered == 0 || entered != pymonitoring_compat_version(interp))
        && pymonitoring_compat_update_states(interp, state_array, version,
                                             event_types, length) < 0)
    {
        return -1;
    }
#if PYMONITORING_COMPAT_ANSWERS
    if (pymonitoring_compat_any_call) {
        pymonitoring_compat_count_scope(interp, 1);
    }
#endif
    return 0;
}

static inline int
pymonitoring_compat_ExitScope(void)
{
#if PYMONITORING_COMPAT_ANSWERS
    if (pymonitoring_compat_any_call) {
        pymonitoring_compat_count_scope(pymonitoring_compat_interp(), -1);
    }
#endif
#if PYMONITORING_COMPAT_TABLES
    return 0;
#else
    return PyMonitoring_ExitScope();
#endif
}

/* ------ The API: events ------ */

/* nargs: 2, and 3 where callbacks get the exception that is set. */
#define PYMONITORING_COMPAT_FIRE(NAME, ID, NARGS) \
    static inline int \
    pymonitoring_compat_Fire ## NAME ## Event( \
        PyMonitoringState *state, PyObject *codelike, int32_t offset) \
    { \
        if (!PYMONITORING_COMPAT_ACTIVE(state)) { \
            return 0; \
        } \
        pymonitoring_compat_event event = { \
            PY_MONITORING_EVENT_ ## ID, #ID, codelike, offset, offset, NARGS, \
            NULL, NULL, 0, 0, \
        }; \
        return pymonitoring_compat_fire(state, &event); \
    }

#define PYMONITORING_COMPAT_FIRE_VALUE(NAME, ID, VALUE) \
    static inline int \
    pymonitoring_compat_Fire ## NAME ## Event( \
        PyMonitoringState *state, PyObject *codelike, int32_t offset, \
        PyObject *VALUE) \
    { \
        if (!PYMONITORING_COMPAT_ACTIVE(state)) { \
            return 0; \
        } \
        pymonitoring_compat_event event = { \
            PY_MONITORING_EVENT_ ## ID, #ID, codelike, offset, offset, 3, \
            VALUE, NULL, 0, 0, \
        }; \
        return pymonitoring_compat_fire(state, &event); \
    }

PYMONITORING_COMPAT_FIRE(PyStart, PY_START, 2)
PYMONITORING_COMPAT_FIRE(PyResume, PY_RESUME, 2)
PYMONITORING_COMPAT_FIRE_VALUE(PyReturn, PY_RETURN, retval)
PYMONITORING_COMPAT_FIRE_VALUE(PyYield, PY_YIELD, retval)
PYMONITORING_COMPAT_FIRE_VALUE(Jump, JUMP, target_offset)
#if PY_VERSION_HEX >= 0x030E0000
PYMONITORING_COMPAT_FIRE_VALUE(BranchLeft, BRANCH_LEFT, target_offset)
PYMONITORING_COMPAT_FIRE_VALUE(BranchRight, BRANCH_RIGHT, target_offset)
#  define pymonitoring_compat_FireBranchEvent \
    pymonitoring_compat_FireBranchRightEvent
#else
PYMONITORING_COMPAT_FIRE_VALUE(Branch, BRANCH, target_offset)
#  define pymonitoring_compat_FireBranchLeftEvent \
    pymonitoring_compat_FireBranchEvent
#  define pymonitoring_compat_FireBranchRightEvent \
    pymonitoring_compat_FireBranchEvent
#endif
PYMONITORING_COMPAT_FIRE_VALUE(StopIteration, STOP_ITERATION, value)
PYMONITORING_COMPAT_FIRE(PyThrow, PY_THROW, 3)
PYMONITORING_COMPAT_FIRE(Raise, RAISE, 3)
PYMONITORING_COMPAT_FIRE(Reraise, RERAISE, 3)
PYMONITORING_COMPAT_FIRE(ExceptionHandled, EXCEPTION_HANDLED, 3)
PYMONITORING_COMPAT_FIRE(PyUnwind, PY_UNWIND, 3)

static inline int
pymonitoring_compat_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                                  int32_t offset, int lineno)
{
    if (!PYMONITORING_COMPAT_ACTIVE(state)) {
        return 0;
    }
    pymonitoring_compat_event event = {
        PY_MONITORING_EVENT_LINE, "LINE", codelike, offset, lineno, 2, NULL,
        NULL, 0, 0,
    };
    return pymonitoring_compat_fire(state, &event);
}

static inline int
pymonitoring_compat_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                                  int32_t offset, PyObject *callable,
                                  PyObject *arg0)
{
    if (!PYMONITORING_COMPAT_ACTIVE(state)) {
        return 0;
    }
    pymonitoring_compat_event event = {
        PY_MONITORING_EVENT_CALL, "CALL", codelike, offset, offset, 4,
        callable, arg0, 0, 0,
    };
    return pymonitoring_compat_fire_call(state, &event);
}

static inline int
pymonitoring_compat_FireCReturnEvent(PyMonitoringState *state,
                                     PyObject *codelike, int32_t offset,
                                     PyObject *retval)
{
    if (!PYMONITORING_COMPAT_ACTIVE(state)) {
        return 0;
    }
    pymonitoring_compat_event event = {
        PY_MONITORING_EVENT_C_RETURN, "C_RETURN", codelike, offset, offset, 4,
        retval, NULL, 0, 0,
    };
    return pymonitoring_compat_fire_answer(state, &event);
}

static inline int
pymonitoring_compat_FireCRaiseEvent(PyMonitoringState *state,
                                    PyObject *codelike, int32_t offset)
{
    if (!PYMONITORING_COMPAT_ACTIVE(state)) {
        return 0;
    }
    pymonitoring_compat_event event = {
        PY_MONITORING_EVENT_C_RAISE, "C_RAISE", codelike, offset, offset, 4,
        NULL, NULL, 0, 0,
    };
    return pymonitoring_compat_fire_answer(state, &event);
}

/* The native functions of these names, where there are any, are called above
   here. */
#define PyMonitoring_EnterScope pymonitoring_compat_EnterScope
#define PyMonitoring_ExitScope pymonitoring_compat_ExitScope
#define PyMonitoring_FirePyStartEvent pymonitoring_compat_FirePyStartEvent
#define PyMonitoring_FirePyResumeEvent pymonitoring_compat_FirePyResumeEvent
#define PyMonitoring_FirePyReturnEvent pymonitoring_compat_FirePyReturnEvent
#define PyMonitoring_FirePyYieldEvent pymonitoring_compat_FirePyYieldEvent
#define PyMonitoring_FireCallEvent pymonitoring_compat_FireCallEvent
#define PyMonitoring_FireLineEvent pymonitoring_compat_FireLineEvent
#define PyMonitoring_FireJumpEvent pymonitoring_compat_FireJumpEvent
#define PyMonitoring_FireBranchEvent pymonitoring_compat_FireBranchEvent
#define PyMonitoring_FireBranchLeftEvent \
    pymonitoring_compat_FireBranchLeftEvent
#define PyMonitoring_FireBranchRightEvent \
    pymonitoring_compat_FireBranchRightEvent
#define PyMonitoring_FireCReturnEvent pymonitoring_compat_FireCReturnEvent
#define PyMonitoring_FirePyThrowEvent pymonitoring_compat_FirePyThrowEvent
#define PyMonitoring_FireRaiseEvent pymonitoring_compat_FireRaiseEvent
#define PyMonitoring_FireReraiseEvent pymonitoring_compat_FireReraiseEvent
#define PyMonitoring_FireExceptionHandledEvent \
    pymonitoring_compat_FireExceptionHandledEvent
#define PyMonitoring_FireCRaiseEvent pymonitoring_compat_FireCRaiseEvent
#define PyMonitoring_FirePyUnwindEvent pymonitoring_compat_FirePyUnwindEvent
#define PyMonitoring_FireStopIterationEvent \
    pymonitoring_compat_FireStopIterationEvent

#undef PYMONITORING_COMPAT_FIRE
#undef PYMONITORING_COMPAT_FIRE_VALUE

#endif /* no series */

#endif /* PYMONITORING_COMPAT_H */
