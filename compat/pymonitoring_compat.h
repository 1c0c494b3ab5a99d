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
   sys.settrace and sys.setprofile get nothing
     wrong (g)                                         yes     yes
   a tool switched off in mid-scope is not called      yes     yes
   DISABLE is for one location (a)                     yes     yes
   DISABLE holds when any tool's events change         yes     no
   no event leaks                                      yes     no (b)
   a callback that is replaced lives while it runs     yes     no (c)
   C_RETURN and C_RAISE                                yes     yes (d)
   BRANCH reaches tools as BRANCH                      yes     3.13 alone (e)
   f_lineno cannot be set in a callback                yes     no
   sys.monitoring.set_local_events for code-likes      no      no
   threads may share states (free-threaded build)       -      yes (f)

   (a) of a code-like that can be weakly referenced.  It holds for who takes the
       tool's id next, too, as in bytecode.
   (b) The interpreter's own function loses one int for each event with an
       offset above 256 (3.15: 1024).
   (c) The interpreter can crash when one that is no Python function removes
       itself.
   (d) Not on a free-threaded build.  Audit hooks hear of two calls of
       sys.monitoring.register_callback for each: nothing else gives a callback.
   (e) From 3.14 on they get BRANCH_LEFT or BRANCH_RIGHT, and BRANCH stands for
       the latter.  The interpreter can crash when a tool registered for the
       deprecated BRANCH.
   (f) Tried on 3.13.  3.12 has no such build.
   (g) They get nothing: the series alone has frames of foreign code.  There
       PyMonitoring_SetFrameNamespaces() does something, too.

   3.12 has no such C-API.  There the header reads the interpreter's tables
   through its internal headers.  At first use, and when a tool first listens,
   it compares what it reads with what sys.monitoring says; if that differs it
   sends no events in that process, and gives a RuntimeWarning.  Audit hooks
   hear of a call of sys.monitoring.register_callback then.

   From https://peps.python.org/pep-0669/ the meaning of events, and from
   https://github.com/python/cpython/issues/111997 the C-API. */

#ifndef PYMONITORING_COMPAT_H
#define PYMONITORING_COMPAT_H

/* Python.h wants it before its first inclusion. */
#ifndef PY_SSIZE_T_CLEAN
#  define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <frameobject.h>
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

/* Calling the tools for C_RETURN and C_RAISE, which the interpreters' functions
   do with the wrong arguments, needs what a free-threaded build has no safe way
   to. */
#ifdef Py_GIL_DISABLED
#  define PYMONITORING_COMPAT_GIL 0
#else
#  define PYMONITORING_COMPAT_GIL 1
#endif

/* What threads share is read and written so that it may be. */
#ifdef Py_GIL_DISABLED
#  define PYMONITORING_COMPAT_LOAD(BYTE) _Py_atomic_load_uint8_relaxed(BYTE)
#  define PYMONITORING_COMPAT_STORE(BYTE, VALUE) \
    _Py_atomic_store_uint8_relaxed(BYTE, VALUE)
#else
#  define PYMONITORING_COMPAT_LOAD(BYTE) (*(BYTE))
#  define PYMONITORING_COMPAT_STORE(BYTE, VALUE) ((void)(*(BYTE) = (VALUE)))
#endif
#define PYMONITORING_COMPAT_ACTIVE(STATE) \
    PYMONITORING_COMPAT_LOAD(&(STATE)->active)

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
    PyObject *arg1;                 /* after code-like and number; NULL: the */
    PyObject *arg2;                 /* exception that is set, or MISSING */
#if !PYMONITORING_COMPAT_TABLES
    /* The interpreter's function, where it has one of these. */
    int (*plain)(PyMonitoringState *, PyObject *, int32_t);
    int (*value)(PyMonitoringState *, PyObject *, int32_t, PyObject *);
#endif
} pymonitoring_compat_event;

/* The event with which a tool switches this one on and disables it: that of
   C_RETURN and C_RAISE is CALL.  INSTRUCTION, which is never fired, stands for
   what is not sent and for what is no event type. */
static inline uint8_t
pymonitoring_compat_base_event(int event)
{
    if (event < PY_MONITORING_EVENT_C_RETURN) {
        return (uint8_t)event;
    }
    return PYMONITORING_COMPAT_GIL && event <= PY_MONITORING_EVENT_C_RAISE
        ? PY_MONITORING_EVENT_CALL : PY_MONITORING_EVENT_INSTRUCTION;
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

/* What a weak reference refers to, to be compared alone; NULL if it died. */
static inline PyObject *
pymonitoring_compat_referent(PyObject *ref)
{
#if PY_VERSION_HEX < 0x030D0000
    PyObject *referent = PyWeakref_GetObject(ref);
    return referent == Py_None ? NULL : referent;
#else
    PyObject *referent;
    (void)PyWeakref_GetRef(ref, &referent);
    Py_XDECREF(referent);
    return referent;
#endif
}

/* An attribute of sys.monitoring: a new reference. */
static inline PyObject *
pymonitoring_compat_attribute(const char *name)
{
    PyObject *module = Py_XNewRef(PySys_GetObject("monitoring"));
    if (module == NULL) {
        /* That gives no reason; this does.  (It alone would not do: at the end
           of an interpreter there is no sys in sys.modules.) */
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

/* ------ What an interpreter has: 3.12 ------ */

#if PYMONITORING_COMPAT_TABLES

/* What is known of the tables: nothing yet, that they are where they should be
   as far as idle ones show it, that they are, or that they are not.  It is a
   memory of what was found and nothing else: who compares again finds the
   same, be it another thread or interpreter. */
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

/* Is the table of callbacks where it should be?  -1 on error. */
static inline int
pymonitoring_compat_check_callbacks(PyInterpreterState *interp)
{
    const int tool = PYMONITORING_COMPAT_TOOLS - 1;
    const int event = PY_MONITORING_EVENT_C_RAISE;
    PyObject **slot = &interp->monitoring_callables[tool][event];
    PyObject *probe = PyList_New(0);
    PyObject *old = probe ? pymonitoring_compat_call(
        "register_callback", "(iiO)", tool, 1 << event, probe) : NULL;
    int good = -1;
    /* Audit hooks run before it is registered, and nothing until it is gone
       again, which needs no memory. */
    if (old != NULL && *slot == probe) {
        *slot = old == Py_None ? NULL : Py_NewRef(old);
        Py_DECREF(probe);
        good = 1;
    }
    else if (old != NULL) {
        PyObject *none = pymonitoring_compat_call(
            "register_callback", "(iiO)", tool, 1 << event, old);
        Py_XDECREF(none);
        good = none ? 0 : -1;
    }
    Py_XDECREF(old);
    Py_XDECREF(probe);
    return good;
}

/* Compare what the tables hold of one tool with what sys.monitoring says.
   -1 on error. */
static inline int
pymonitoring_compat_check_tool(PyInterpreterState *interp, int tool)
{
    PyObject *name = pymonitoring_compat_call("get_tool", "(i)", tool);
    if (name == NULL) {
        return -1;
    }
    PyObject *expected = name == Py_None ? NULL : name;
    Py_DECREF(name);
    if (interp->monitoring_tool_names[tool] != expected) {
        return 0;
    }
    PyObject *set = pymonitoring_compat_call("get_events", "(i)", tool);
    if (set == NULL) {
        /* 3.12's later releases refuse it for a tool that is not used. */
        if (expected != NULL || !PyErr_ExceptionMatches(PyExc_ValueError)) {
            return -1;
        }
        PyErr_Clear();
        return 1;
    }
    unsigned long events = PyLong_AsUnsignedLong(set);
    Py_DECREF(set);
    for (int e = 0; e < _PY_MONITORING_UNGROUPED_EVENTS; e++) {
        if ((interp->monitors.tools[e] >> tool & 1) != (events >> e & 1)) {
            return 0;
        }
    }
    return 1;
}

/* Does any tool listen, as the tables have it? */
static inline int
pymonitoring_compat_listens(PyThreadState *tstate)
{
    static const _Py_GlobalMonitors idle = {{0}};
    const _Py_GlobalMonitors *monitors = &tstate->interp->monitors;
    int tools = 0;
    if (memcmp(monitors, &idle, sizeof(idle)) != 0) {
        for (int e = 0; e < _PY_MONITORING_UNGROUPED_EVENTS; e++) {
            tools |= monitors->tools[e];
        }
    }
    return (tools & PYMONITORING_COMPAT_TOOL_MASK) != 0;
}

/* Compare the tables with what sys.monitoring says.  Return the status that
   they have then; -1 on error. */
static inline int
pymonitoring_compat_compare(PyThreadState *tstate)
{
    PyInterpreterState *interp = tstate->interp;
    int good = pymonitoring_compat_check_size(interp)
        && interp->last_restart_version <= interp->monitoring_version;
    for (int tool = 0; good > 0 && tool < PYMONITORING_COMPAT_TOOLS; tool++) {
        good = pymonitoring_compat_check_tool(interp, tool);
    }
    if (good > 0) {
        if (!pymonitoring_compat_listens(tstate)) {
            return PYMONITORING_COMPAT_IDLE;
        }
        good = interp->monitoring_version != 0
            ? pymonitoring_compat_check_callbacks(interp) : 0;
    }
    return good < 0 ? -1
        : good ? PYMONITORING_COMPAT_GOOD : PYMONITORING_COMPAT_OFF;
}

/* The status of the tables, compared at first use and when a tool first
   listens; -1 on error. */
static inline int
pymonitoring_compat_check(PyThreadState *tstate)
{
    int status = pymonitoring_compat_status;
    if (status == PYMONITORING_COMPAT_GOOD || status == PYMONITORING_COMPAT_OFF
        || (status == PYMONITORING_COMPAT_IDLE
            && !pymonitoring_compat_listens(tstate)))
    {
        return status;
    }
    /* An audit hook may run a producer: in it nothing is asked, as in a
       callback, where events do nothing.  At the end of the interpreter there
       is nobody to ask. */
    if (tstate->tracing || PySys_GetObject("monitoring") == Py_None) {
        return PYMONITORING_COMPAT_UNKNOWN;
    }
    PyObject *pending = PyErr_GetRaisedException();
    tstate->tracing++;
    status = pymonitoring_compat_compare(tstate);
    tstate->tracing--;
    if (status >= 0) {
        pymonitoring_compat_status = status;
    }
    if (status == PYMONITORING_COMPAT_OFF
        && PyErr_WarnFormat(
            PyExc_RuntimeWarning, 1,
            "the monitoring tables of this Python %d.%d.%d are not where an "
            "extension built for " PY_VERSION " looks for them: it signals no "
            "events", (int)(Py_Version >> 24 & 0xFF),
            (int)(Py_Version >> 16 & 0xFF), (int)(Py_Version >> 8 & 0xFF)) < 0)
    {
        status = -1;
    }
    if (status < 0) {
        pymonitoring_compat_chain(pending);
    }
    else {
        PyErr_SetRaisedException(pending);
    }
    return status;
}

/* What changes with the events of any tool; never 0. */
static inline uint64_t
pymonitoring_compat_version(void)
{
    return PyThreadState_Get()->interp->monitoring_version << 1 | 1;
}

/* What changes when disabled locations are to be forgotten. */
static inline uint64_t
pymonitoring_compat_restart_version(void)
{
    return PyThreadState_Get()->interp->last_restart_version;
}

/* The tools that listen to the event now. */
static inline uint8_t
pymonitoring_compat_tools(PyThreadState *tstate, int event)
{
    event = pymonitoring_compat_base_event(event);
    return event == PY_MONITORING_EVENT_INSTRUCTION ? 0
        : tstate->interp->monitors.tools[event] & PYMONITORING_COMPAT_TOOL_MASK;
}

/* Write the states, and the version that they are written for: 0 if that is not
   known yet. */
static inline int
pymonitoring_compat_read(PyMonitoringState *state_array, uint64_t *version,
                         const uint8_t *event_types, Py_ssize_t length)
{
    PyThreadState *tstate = PyThreadState_Get();
    int status = pymonitoring_compat_check(tstate);
    memset(state_array, 0, (size_t)length * sizeof(*state_array));
    if (status == PYMONITORING_COMPAT_GOOD) {
        for (Py_ssize_t i = 0; i < length; i++) {
            state_array[i].active = pymonitoring_compat_tools(tstate,
                                                              event_types[i]);
        }
    }
    *version = status > PYMONITORING_COMPAT_UNKNOWN
               ? pymonitoring_compat_version() : 0;
    return status < 0 ? -1 : 0;
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

#define PYMONITORING_COMPAT_IF_NATIVE(CALL)

#else

/* ------ What an interpreter has: 3.13 and later ------ */

/* What an interpreter with the series has beside these: an extension that was
   built for a stock 3.13 may come to run on one, and is then to CALL that. */
#if defined(__GNUC__) && !defined(_WIN32) && !defined(__CYGWIN__)
#  ifdef __APPLE__
#    define PYMONITORING_COMPAT_WEAK __attribute__((weak_import))
#  else
#    define PYMONITORING_COMPAT_WEAK __attribute__((weak))
#  endif
#  ifdef __cplusplus
extern "C" {
#  endif
PyAPI_FUNC(int) _PyMonitoring_FireCallReturnEvent(
    PyMonitoringState *state, PyObject *codelike, int32_t offset,
    PyObject *callable, PyObject *arg0) PYMONITORING_COMPAT_WEAK;
PyAPI_FUNC(int) _PyMonitoring_FireCallRaiseEvent(
    PyMonitoringState *state, PyObject *codelike, int32_t offset,
    PyObject *callable, PyObject *arg0) PYMONITORING_COMPAT_WEAK;
PyAPI_FUNC(PyObject *) _PyMonitoring_Vectorcall(
    PyMonitoringState *call_state, PyMonitoringState *c_return_state,
    PyMonitoringState *c_raise_state, PyObject *codelike, int32_t offset,
    PyObject *callable, PyObject *const *args, size_t nargsf,
    PyObject *kwnames) PYMONITORING_COMPAT_WEAK;
PyAPI_FUNC(int) _PyMonitoring_SetFrameNamespaces(
    PyObject *codelike, PyObject *globals,
    PyObject *locals) PYMONITORING_COMPAT_WEAK;
PyAPI_FUNC(int) _PyMonitoring_AddTraceback(
    PyObject *codelike, int32_t offset, int lineno) PYMONITORING_COMPAT_WEAK;
#  ifdef __cplusplus
}
#  endif
#  undef PYMONITORING_COMPAT_WEAK
#  define PYMONITORING_COMPAT_IF_NATIVE(CALL) \
    if (&_PyMonitoring_Vectorcall != NULL) { \
        return CALL; \
    }
#else
#  define PYMONITORING_COMPAT_IF_NATIVE(CALL)
#endif

/* What changes with the events of any tool; never 0.  (The interpreter's low
   bits are free, and asking for no states costs little.) */
static inline uint64_t
pymonitoring_compat_version(void)
{
    uint64_t version = 0;
    (void)PyMonitoring_EnterScope(NULL, &version, NULL, 0);
    return version | 1;
}

/* What changes when disabled locations are to be forgotten.  No more than this
   is known of sys.monitoring.restart_events(). */
static inline uint64_t
pymonitoring_compat_restart_version(void)
{
    return pymonitoring_compat_version();
}

/* The tools that listen to the event now. */
static inline uint8_t
pymonitoring_compat_tools(PyThreadState *Py_UNUSED(tstate), int event)
{
    PyMonitoringState state = {0, 0};
    uint8_t type = pymonitoring_compat_base_event(event);
    uint64_t version = 0;
    (void)PyMonitoring_EnterScope(&state, &version, &type, 1);
    return type == PY_MONITORING_EVENT_INSTRUCTION
        ? 0 : state.active & PYMONITORING_COMPAT_TOOL_MASK;
}

/* Does any tool listen? */
static inline int
pymonitoring_compat_listens(PyThreadState *tstate)
{
    uint8_t tools = 0;
    for (int event = 0; event < PY_MONITORING_EVENT_C_RETURN; event++) {
        tools |= pymonitoring_compat_tools(tstate, event);
    }
    return tools != 0;
}

/* Write the states, and the version that they are written for. */
static inline int
pymonitoring_compat_read(PyMonitoringState *state_array, uint64_t *version,
                         const uint8_t *event_types, Py_ssize_t length)
{
    /* The interpreter has no place for C_RETURN and C_RAISE, and does not write
       as threads may read. */
    PyMonitoringState states[32];
    uint8_t types[32];
    int at_once = length <= (Py_ssize_t)sizeof(types);
    uint64_t current = 0;
    for (Py_ssize_t i = 0; at_once && i < length; i++) {
        types[i] = pymonitoring_compat_base_event(event_types[i]);
    }
    memset(states, 0, sizeof(states));
    (void)PyMonitoring_EnterScope(states, &current, types,
                                  at_once ? length : 0);
    *version = current | 1;
    for (Py_ssize_t i = 0; i < length; i++) {
        uint8_t tools =
            !at_once ? pymonitoring_compat_tools(NULL, event_types[i])
            : types[i] == PY_MONITORING_EVENT_INSTRUCTION ? 0
            : states[i].active & PYMONITORING_COMPAT_TOOL_MASK;
        PYMONITORING_COMPAT_STORE(&state_array[i].active, tools);
        PYMONITORING_COMPAT_STORE(&state_array[i].opaque, 0);
    }
    return 0;
}

/* The function of the interpreter for an event other than C_RETURN and
   C_RAISE. */
static inline int
pymonitoring_compat_native(PyMonitoringState *state,
                           const pymonitoring_compat_event *event)
{
    if (event->plain != NULL) {
        return event->plain(state, event->codelike, event->offset);
    }
    if (event->value != NULL) {
        return event->value(state, event->codelike, event->offset,
                            event->arg1);
    }
    if (event->id == PY_MONITORING_EVENT_LINE) {
        return PyMonitoring_FireLineEvent(state, event->codelike,
                                          event->offset, event->number);
    }
    return PyMonitoring_FireCallEvent(state, event->codelike, event->offset,
                                      event->arg1, event->arg2);
}

#if PYMONITORING_COMPAT_GIL

/* The callback of a tool for an event: a new reference, or NULL, with an
   exception set on error.  Only what replaces it is given it, so it is taken
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

#if PYMONITORING_COMPAT_GIL

/* sys.monitoring's DISABLE and MISSING, both immortal, and of the process. */
PYMONITORING_COMPAT_SHARED PyObject *pymonitoring_compat_DISABLE = NULL;
PYMONITORING_COMPAT_SHARED PyObject *pymonitoring_compat_MISSING = NULL;

static inline int
pymonitoring_compat_constants(void)
{
    if (pymonitoring_compat_DISABLE == NULL) {
        pymonitoring_compat_DISABLE = pymonitoring_compat_attribute("DISABLE");
    }
    if (pymonitoring_compat_MISSING == NULL) {
        pymonitoring_compat_MISSING = pymonitoring_compat_attribute("MISSING");
    }
    return pymonitoring_compat_DISABLE != NULL
           && pymonitoring_compat_MISSING != NULL ? 0 : -1;
}

/* Call the tools' callbacks.  Return those that asked for DISABLE, or -1. */
static inline int
pymonitoring_compat_call_callbacks(PyThreadState *tstate,
                                   const pymonitoring_compat_event *event,
                                   uint8_t tools)
{
    if (pymonitoring_compat_constants() < 0) {
        return -1;
    }
    PyObject *missing = pymonitoring_compat_MISSING;
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
        if (res != pymonitoring_compat_DISABLE) {
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
#if PYMONITORING_COMPAT_GIL
    if (event->id >= PY_MONITORING_EVENT_C_RETURN) {
        return pymonitoring_compat_call_callbacks(tstate, event, tools);
    }
#else
    (void)tstate;
#endif
    PyMonitoringState state = {tools, 0};
    if (event->plain != NULL && event->nargs == 3) {
        PyErr_SetRaisedException(Py_NewRef(event->arg1));
    }
    if (pymonitoring_compat_native(&state, event) < 0) {
        return -1;
    }
    return tools & ~state.active;
}

#endif

/* ------ Disabled locations ------ */

/* Did any location become disabled?  Until then nothing is looked up. */
PYMONITORING_COMPAT_SHARED uint8_t pymonitoring_compat_any_disabled = 0;

/* What is disabled in the interpreter, in its dict: a tuple of the version for
   which it holds and a dict {id of a code-like: (weak reference, {location:
   tools})}.  All extensions share it, each with its own copy of this header:
   another layout, or another meaning, needs another key.

   Return a new reference to the dict, or NULL. */
#define PYMONITORING_COMPAT_KEY "pymonitoring_compat 2"

static inline PyObject *
pymonitoring_compat_all_disabled(PyObject *interpreter_dict)
{
    PyObject *key = PyUnicode_FromString(PYMONITORING_COMPAT_KEY);
    PyObject *version = PyLong_FromUnsignedLongLong(
        pymonitoring_compat_restart_version());
    PyObject *pair = NULL;
    PyObject *disabled = NULL;
    if (key != NULL && version != NULL) {
        pair = pymonitoring_compat_get(interpreter_dict, key);
        if ((pair == NULL && !PyErr_Occurred())
            || (pair != NULL && PyObject_RichCompareBool(
                PyTuple_GET_ITEM(pair, 0), version, Py_NE) > 0))
        {
            Py_XSETREF(pair, Py_BuildValue("(O{})", version));
            if (pair != NULL
                && PyDict_SetItem(interpreter_dict, key, pair) < 0)
            {
                Py_CLEAR(pair);
            }
        }
    }
    if (pair != NULL) {
        disabled = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(pair);
    Py_XDECREF(key);
    Py_XDECREF(version);
    return disabled;
}

/* The weak reference of a code-like died: self is the id. */
static inline PyObject *
pymonitoring_compat_forget(PyObject *self, PyObject *ref)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *disabled = dict ? pymonitoring_compat_all_disabled(dict) : NULL;
    PyObject *entry = disabled ? pymonitoring_compat_get(disabled, self) : NULL;
    if (entry != NULL && PyTuple_GET_ITEM(entry, 0) == ref
        && pymonitoring_compat_referent(ref) == NULL)
    {
        (void)PyDict_DelItem(disabled, self);
    }
    Py_XDECREF(entry);
    Py_XDECREF(disabled);
    /* It may stay: its reference shows that it is dead. */
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static PyMethodDef pymonitoring_compat_forget_def = {
    "forget", pymonitoring_compat_forget, METH_O, NULL
};

static inline int
pymonitoring_compat_disable_in(PyObject *interpreter_dict,
                               const pymonitoring_compat_event *event,
                               int more)
{
    int tools = -1;
    PyObject *disabled = pymonitoring_compat_all_disabled(interpreter_dict);
    PyObject *id = PyLong_FromVoidPtr(event->codelike);
    PyObject *location = PyLong_FromUnsignedLongLong(
        (unsigned long long)pymonitoring_compat_base_event(event->id) << 32
        | (uint32_t)event->number);
    PyObject *entry = NULL;
    PyObject *value = NULL;
    PyObject *callback = NULL;
    PyObject *ref = NULL;
    if (disabled == NULL || id == NULL || location == NULL) {
        goto done;
    }
    entry = pymonitoring_compat_get(disabled, id);
    /* An address may be used again. */
    if (entry != NULL && pymonitoring_compat_referent(
            PyTuple_GET_ITEM(entry, 0)) != event->codelike)
    {
        Py_CLEAR(entry);
    }
    if (entry != NULL) {
        value = pymonitoring_compat_get(PyTuple_GET_ITEM(entry, 1), location);
    }
    if (PyErr_Occurred()) {
        goto done;
    }
    tools = value ? (int)PyLong_AsLong(value) : 0;
    if ((more & ~tools) == 0) {
        goto done;
    }
    tools |= more;
    Py_XSETREF(value, PyLong_FromLong(tools));
    if (value == NULL) {
        tools = -1;
    }
    else if (entry != NULL) {
        if (PyDict_SetItem(PyTuple_GET_ITEM(entry, 1), location, value) < 0) {
            tools = -1;
        }
    }
    else if ((callback = PyCFunction_New(&pymonitoring_compat_forget_def,
                                         id)) == NULL
             || (ref = PyWeakref_NewRef(event->codelike, callback)) == NULL
             || (entry = Py_BuildValue("(O{OO})", ref, location,
                                       value)) == NULL
             || PyDict_SetItem(disabled, id, entry) < 0)
    {
        tools = -1;
    }
done:
    Py_XDECREF(disabled);
    Py_XDECREF(id);
    Py_XDECREF(location);
    Py_XDECREF(entry);
    Py_XDECREF(value);
    Py_XDECREF(callback);
    Py_XDECREF(ref);
    return tools;
}

/* Disable the location of the event for more tools, none or more.  Return the
   tools for which it is disabled; -1 on error. */
static inline int
pymonitoring_compat_disable(const pymonitoring_compat_event *event, int more)
{
    int tools;
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (dict == NULL) {
        PyErr_NoMemory();
        return -1;
    }
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(dict);
#endif
    tools = pymonitoring_compat_disable_in(dict, event, more);
#ifdef Py_GIL_DISABLED
    Py_END_CRITICAL_SECTION();
#endif
    return tools;
}

/* ------ Firing ------ */

/* Call the tools for an event whose arguments are good.  Called, and returns
   when there is no error, without an exception set. */
static inline int
pymonitoring_compat_dispatch(PyThreadState *tstate, PyMonitoringState *state,
                             const pymonitoring_compat_event *event,
                             uint8_t tools)
{
    int base = pymonitoring_compat_base_event(event->id);
    if (PY_MONITORING_IS_INSTRUMENTED_EVENT(base)
        && PYMONITORING_COMPAT_LOAD(&pymonitoring_compat_any_disabled))
    {
        int disabled = pymonitoring_compat_disable(event, 0);
        if (disabled < 0) {
            return -1;
        }
        tools &= (uint8_t)~disabled;
    }
    int disabling = tools
        ? pymonitoring_compat_call_tools(tstate, event, tools) : 0;
    if (disabling <= 0) {
        return disabling;
    }
    if (Py_TYPE(event->codelike)->tp_weaklistoffset != 0) {
        PYMONITORING_COMPAT_STORE(&pymonitoring_compat_any_disabled, 1);
        return pymonitoring_compat_disable(event, disabling) < 0 ? -1 : 0;
    }
    /* For the state, until it is next written. */
#ifdef Py_GIL_DISABLED
    (void)_Py_atomic_and_uint8(&state->active, (uint8_t)~disabling);
#else
    state->active &= (uint8_t)~disabling;
#endif
    return 0;
}

static inline int
pymonitoring_compat_fire(PyMonitoringState *state,
                         pymonitoring_compat_event *event)
{
    PYMONITORING_COMPAT_IF_NATIVE(pymonitoring_compat_native(state, event))
    PyThreadState *tstate = PyThreadState_Get();
    if (tstate->tracing) {
        return 0;
    }
    uint8_t tools = PYMONITORING_COMPAT_ACTIVE(state)
                    & pymonitoring_compat_tools(tstate, event->id);
    if (tools == 0) {
        return 0;
    }
    int err = -1;
    int is_exception = event->id == PY_MONITORING_EVENT_C_RAISE;
    PyObject *stop = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    if (event->offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event->name, (int)event->offset);
        goto done;
    }
    if (event->nargs == 3 && event->arg1 == NULL) {
        event->arg1 = pending;
        is_exception = 1;
    }
    if (is_exception && pending == NULL) {
        PyErr_Format(PyExc_ValueError,
                     "Firing event %d with no exception set", event->id);
        goto done;
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
    err = pymonitoring_compat_dispatch(tstate, state, event, tools);
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

/* ------ The API: scopes ------ */

#ifdef Py_GIL_DISABLED
/* Held while states and their version are written. */
PYMONITORING_COMPAT_SHARED PyMutex pymonitoring_compat_mutex = {0};
#endif

static inline int
pymonitoring_compat_write_states(PyMonitoringState *state_array,
                                 uint64_t *version, const uint8_t *event_types,
                                 Py_ssize_t length)
{
    uint64_t current;
    uint8_t last = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        last = Py_MAX(last, event_types[i]);
    }
#ifdef Py_GIL_DISABLED
    PyMutex_Lock(&pymonitoring_compat_mutex);
#endif
    int err = pymonitoring_compat_read(state_array, &current, event_types,
                                       length);
    int bad = last > PY_MONITORING_EVENT_C_RAISE && current != 0
              && pymonitoring_compat_listens(PyThreadState_Get());
    for (Py_ssize_t i = 0; bad && i < length; i++) {
        PYMONITORING_COMPAT_STORE(&state_array[i].active, 0);
    }
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint64_release(version, bad ? 0 : current);
    PyMutex_Unlock(&pymonitoring_compat_mutex);
#else
    *version = bad ? 0 : current;
#endif
    if (bad) {
        PyObject *pending = PyErr_GetRaisedException();
        Py_ssize_t i = 0;
        while (event_types[i] <= PY_MONITORING_EVENT_C_RAISE) {
            i++;
        }
        PyErr_Format(PyExc_ValueError,
                     "event_types[%zd] is %d, which is no event type", i,
                     event_types[i]);
        pymonitoring_compat_chain(pending);
        return -1;
    }
    return err;
}

static inline int
pymonitoring_compat_EnterScope(PyMonitoringState *state_array,
                               uint64_t *version, const uint8_t *event_types,
                               Py_ssize_t length)
{
    PYMONITORING_COMPAT_IF_NATIVE(
        PyMonitoring_EnterScope(state_array, version, event_types, length))
#ifdef Py_GIL_DISABLED
    uint64_t entered = _Py_atomic_load_uint64_acquire(version);
#else
    uint64_t entered = *version;
#endif
    return entered != 0 && entered == pymonitoring_compat_version()
        ? 0 : pymonitoring_compat_write_states(state_array, version,
                                               event_types, length);
}

static inline int
pymonitoring_compat_ExitScope(void)
{
    return 0;
}

/* ------ The API: events ------ */

#if PYMONITORING_COMPAT_TABLES
#  define PYMONITORING_COMPAT_FUNCTIONS(PLAIN, VALUE)
#else
#  define PYMONITORING_COMPAT_FUNCTIONS(PLAIN, VALUE) , PLAIN, VALUE
#endif

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
            NULL, NULL PYMONITORING_COMPAT_FUNCTIONS( \
                PyMonitoring_Fire ## NAME ## Event, NULL) \
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
            VALUE, NULL PYMONITORING_COMPAT_FUNCTIONS( \
                NULL, PyMonitoring_Fire ## NAME ## Event) \
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
        NULL PYMONITORING_COMPAT_FUNCTIONS(NULL, NULL)
    };
    return pymonitoring_compat_fire(state, &event);
}

/* The body of a function for CALL, C_RETURN or C_RAISE. */
#define PYMONITORING_COMPAT_FIRE_CALL(ID, CALLABLE, ARG0, NATIVE) \
    if (!PYMONITORING_COMPAT_ACTIVE(state)) { \
        return 0; \
    } \
    PYMONITORING_COMPAT_IF_NATIVE(NATIVE) \
    pymonitoring_compat_event event = { \
        PY_MONITORING_EVENT_ ## ID, #ID, codelike, offset, offset, 4, \
        CALLABLE, ARG0 PYMONITORING_COMPAT_FUNCTIONS(NULL, NULL) \
    }; \
    return pymonitoring_compat_fire(state, &event);

static inline int
pymonitoring_compat_FireCallEvent(PyMonitoringState *state, PyObject *codelike,
                                  int32_t offset, PyObject *callable,
                                  PyObject *arg0)
{
    PYMONITORING_COMPAT_FIRE_CALL(
        CALL, callable, arg0,
        PyMonitoring_FireCallEvent(state, codelike, offset, callable, arg0))
}

static inline int
pymonitoring_compat_FireCallReturnEvent(PyMonitoringState *state,
                                        PyObject *codelike, int32_t offset,
                                        PyObject *callable, PyObject *arg0)
{
    PYMONITORING_COMPAT_FIRE_CALL(
        C_RETURN, callable, arg0,
        _PyMonitoring_FireCallReturnEvent(state, codelike, offset, callable,
                                          arg0))
}

static inline int
pymonitoring_compat_FireCallRaiseEvent(PyMonitoringState *state,
                                       PyObject *codelike, int32_t offset,
                                       PyObject *callable, PyObject *arg0)
{
    PYMONITORING_COMPAT_FIRE_CALL(
        C_RAISE, callable, arg0,
        _PyMonitoring_FireCallRaiseEvent(state, codelike, offset, callable,
                                         arg0))
}

static inline int
pymonitoring_compat_FireCReturnEvent(PyMonitoringState *state,
                                     PyObject *codelike, int32_t offset,
                                     PyObject *retval)
{
    (void)retval;
    PYMONITORING_COMPAT_FIRE_CALL(
        C_RETURN, NULL, NULL,
        PyMonitoring_FireCReturnEvent(state, codelike, offset, retval))
}

static inline int
pymonitoring_compat_FireCRaiseEvent(PyMonitoringState *state,
                                    PyObject *codelike, int32_t offset)
{
    PYMONITORING_COMPAT_FIRE_CALL(
        C_RAISE, NULL, NULL,
        PyMonitoring_FireCRaiseEvent(state, codelike, offset))
}

static inline PyObject *
pymonitoring_compat_Vectorcall(PyMonitoringState *call_state,
                               PyMonitoringState *c_return_state,
                               PyMonitoringState *c_raise_state,
                               PyObject *codelike, int32_t offset,
                               PyObject *callable, PyObject *const *args,
                               size_t nargsf, PyObject *kwnames)
{
    if (!PYMONITORING_COMPAT_ACTIVE(call_state)) {
        return PyObject_Vectorcall(callable, args, nargsf, kwnames);
    }
    PYMONITORING_COMPAT_IF_NATIVE(
        _PyMonitoring_Vectorcall(call_state, c_return_state, c_raise_state,
                                 codelike, offset, callable, args, nargsf,
                                 kwnames))
    PyObject *arg0;
    if (PyVectorcall_NARGS(nargsf) > 0) {
        arg0 = args[0];
    }
    else {
        arg0 = pymonitoring_compat_attribute("MISSING");
        if (arg0 == NULL) {
            return NULL;
        }
        Py_DECREF(arg0);            /* immortal */
    }
    if (pymonitoring_compat_FireCallEvent(call_state, codelike, offset,
                                          callable, arg0) < 0)
    {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(callable, args, nargsf, kwnames);
    PyObject *function = PyMethod_Check(callable)
                         ? PyMethod_GET_FUNCTION(callable) : callable;
    if (PyFunction_Check(function)) {
        return result;
    }
    if (result == NULL) {
        (void)pymonitoring_compat_FireCallRaiseEvent(
            c_raise_state, codelike, offset, callable, arg0);
    }
    else if (pymonitoring_compat_FireCallReturnEvent(
        c_return_state, codelike, offset, callable, arg0) < 0)
    {
        Py_CLEAR(result);
    }
    return result;
}

/* Only the series has frames of foreign code. */
static inline int
pymonitoring_compat_SetFrameNamespaces(PyMonitoringState *state,
                                       PyObject *codelike, PyObject *globals,
                                       PyObject *locals)
{
    (void)codelike;
    (void)globals;
    (void)locals;
    if (!PYMONITORING_COMPAT_ACTIVE(state)) {
        return 0;
    }
    PYMONITORING_COMPAT_IF_NATIVE(
        _PyMonitoring_SetFrameNamespaces(codelike, globals, locals))
    return 0;
}

/* The code object for a traceback entry, a new reference. */
static inline PyObject *
pymonitoring_compat_code(PyObject *codelike, int lineno)
{
    if (PyCode_Check(codelike)) {
        return Py_NewRef(codelike);
    }
    PyObject *filename = PyObject_GetAttrString(codelike, "co_filename");
    PyObject *name = PyObject_GetAttrString(codelike, "co_name");
    const char *utf8_filename = filename == NULL
                                ? NULL : PyUnicode_AsUTF8(filename);
    const char *utf8_name = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    PyObject *code = utf8_filename == NULL || utf8_name == NULL ? NULL
        : (PyObject *)PyCode_NewEmpty(utf8_filename, utf8_name, lineno);
    Py_XDECREF(name);
    Py_XDECREF(filename);
    return code;
}

static inline int
pymonitoring_compat_AddTraceback(PyObject *codelike, int32_t offset,
                                 int lineno)
{
    PYMONITORING_COMPAT_IF_NATIVE(
        _PyMonitoring_AddTraceback(codelike, offset, lineno))
    PyObject *exc = PyErr_GetRaisedException();
    if (exc == NULL) {
        PyErr_SetString(PyExc_SystemError, "PyMonitoring_AddTraceback() needs "
                        "an exception that is set");
        return -1;
    }
    PyObject *next = PyException_GetTraceback(exc);
    PyObject *code = pymonitoring_compat_code(codelike, lineno);
    PyObject *globals = PyDict_New();
    PyObject *frame = NULL, *traceback = NULL;
    if (code != NULL && globals != NULL) {
        frame = (PyObject *)PyFrame_New(PyThreadState_Get(),
                                        (PyCodeObject *)code, globals, NULL);
    }
    if (frame != NULL) {
        int line = -1;
        if (code == codelike && offset >= 0
            && offset / 2 < Py_SIZE((PyVarObject *)code))
        {
            line = PyCode_Addr2Line((PyCodeObject *)code, offset);
        }
        if (lineno == 0) {
            lineno = line > 0 ? line
                              : ((PyCodeObject *)code)->co_firstlineno;
        }
        traceback = PyObject_CallFunction(
            (PyObject *)&PyTraceBack_Type, "OOii", next ? next : Py_None,
            frame, line == lineno ? (int)offset : -1, lineno);
    }
    if (traceback != NULL) {
        (void)PyException_SetTraceback(exc, traceback);
    }
    /* Drops what went wrong. */
    PyErr_SetRaisedException(exc);
    int result = traceback != NULL ? 0 : -1;
    Py_XDECREF(traceback);
    Py_XDECREF(frame);
    Py_XDECREF(globals);
    Py_XDECREF(code);
    Py_XDECREF(next);
    return result;
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
#define PyMonitoring_FireCallReturnEvent \
    pymonitoring_compat_FireCallReturnEvent
#define PyMonitoring_FireCallRaiseEvent pymonitoring_compat_FireCallRaiseEvent
#define PyMonitoring_FireCReturnEvent pymonitoring_compat_FireCReturnEvent
#define PyMonitoring_FireCRaiseEvent pymonitoring_compat_FireCRaiseEvent
#define PyMonitoring_Vectorcall pymonitoring_compat_Vectorcall
#define PyMonitoring_FirePyThrowEvent pymonitoring_compat_FirePyThrowEvent
#define PyMonitoring_FireRaiseEvent pymonitoring_compat_FireRaiseEvent
#define PyMonitoring_FireReraiseEvent pymonitoring_compat_FireReraiseEvent
#define PyMonitoring_FireExceptionHandledEvent \
    pymonitoring_compat_FireExceptionHandledEvent
#define PyMonitoring_FirePyUnwindEvent pymonitoring_compat_FirePyUnwindEvent
#define PyMonitoring_FireStopIterationEvent \
    pymonitoring_compat_FireStopIterationEvent
#define PyMonitoring_SetFrameNamespaces pymonitoring_compat_SetFrameNamespaces
#define PyMonitoring_AddTraceback pymonitoring_compat_AddTraceback

#undef PYMONITORING_COMPAT_FIRE
#undef PYMONITORING_COMPAT_FIRE_VALUE
#undef PYMONITORING_COMPAT_FIRE_CALL
#undef PYMONITORING_COMPAT_FUNCTIONS
#undef PYMONITORING_COMPAT_IF_NATIVE

#endif /* no series */

#endif /* PYMONITORING_COMPAT_H */
