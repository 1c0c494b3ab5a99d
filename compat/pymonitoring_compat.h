/* PyMonitoring_EnterScope(), PyMonitoring_Fire...Event() and the rest of the
   C-API by which code that is not bytecode signals sys.monitoring events
   (PEP 669), on every CPython from 3.12 on.

   Put this file into your project and include it, after Python.h or instead
   of it, or have the compiler include it: -include pymonitoring_compat.h.
   It needs no library and no build step.  It is C99 and C++11, for the full
   C-API and for the limited one (Py_LIMITED_API) of 3.12 and later, of which
   PyMonitoringCompat_SendsEvents() says whether it sends events where it runs:
   it does from 3.13 on.

   Each function is documented in CPython's Include/cpython/monitoring.h and
   code.h, as the series "Monitoring events from code that is not bytecode" has
   them.  An interpreter with that series keeps all of these promises, and this
   header adds nothing there.  What holds elsewhere:

                                                    3.12  3.13 on   limited
   all names, both spellings of BRANCH              yes   yes       yes
   states always defined, unknown ids refused       yes   yes       yes
   events fired while a callback runs do nothing    yes   yes       yes (h)
   a pending exception is kept, or is the
     __context__ of what a callback raises          yes   yes       yes
   STOP_ITERATION reports every value unchanged     yes   yes       yes
   sys.settrace and sys.setprofile get nothing
     wrong (g)                                      yes   yes       yes
   a tool switched off in mid-scope is not called   yes   yes       yes
   DISABLE is for one location (a)                  yes   yes       yes
   DISABLE holds when any tool's events change      yes   no        no
   no event leaks                                   yes   no (b)    no
   a callback that is replaced lives while it runs  yes   no (c)    no
   C_RETURN and C_RAISE                             yes   yes (d)   yes
   BRANCH reaches tools as BRANCH                   yes   3.13 (e)  3.13
   f_lineno cannot be set in a callback             yes   no        no
   code objects made of locations, columns in
     tracebacks (j)                                 yes   yes       yes
   sys.monitoring.set_local_events for code objects
     with bytecode, at once                         yes   yes       yes (i)
   sys.monitoring.set_local_events for other
     code-likes                                     no    no        no
   threads may share states (free-threaded build)   -     yes (f)   -

   (a) of a code-like that can be weakly referenced.  It holds for who takes
       the tool's id next, too, as in bytecode.
   (b) The interpreter's own function loses one int for each event with an
       offset above 256 (3.15: 1024).
   (c) The interpreter can crash when one that is no Python function removes
       itself.
   (d) Not on a free-threaded build.  Audit hooks hear of two calls of
       sys.monitoring.register_callback for each: nothing else gives one.
   (e) From 3.14 on they get BRANCH_LEFT or BRANCH_RIGHT, and BRANCH stands for
       the latter.  The interpreter can crash when a tool registered for the
       deprecated BRANCH.
   (f) Tried on 3.13.  3.12 has no such build.
   (g) They get nothing: the series alone has frames of foreign code.  There
       PyMonitoring_SetFrameNamespaces() does something, too.
   (h) In callbacks for what has not this header, bytecode for instance, they
       are sent.
   (i) of a tool that listens to some event of all code, too.
   (j) The entry of a traceback has a frame of its own.

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
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#if defined(PYPY_VERSION) || PY_VERSION_HEX < 0x030C0000 \
    || (defined(Py_LIMITED_API) && Py_LIMITED_API + 0 < 0x030C0000)
#  error "pymonitoring_compat.h needs the C-API of CPython 3.12 or later"
#endif

/* Only the series has 3.14's name in a 3.13. */
#if PY_VERSION_HEX < 0x030E0000 && defined(PY_MONITORING_EVENT_BRANCH_LEFT)

#define PyMonitoringCompat_SendsEvents() 1

#else

#if PY_VERSION_HEX < 0x030D0000 && !defined(Py_LIMITED_API)
#  define PYMON_TABLES 1
#else
#  define PYMON_TABLES 0
#endif

#if PYMON_TABLES

/* Internal headers are clean in C and in C++ only without these two. */
#ifdef HAVE_STD_ATOMIC
#  undef HAVE_STD_ATOMIC
#  define PYMON_STD_ATOMIC
#endif
#undef _PyGC_FINALIZED
#ifndef Py_BUILD_CORE
#  define Py_BUILD_CORE 1
#  define PYMON_BUILD_CORE
#endif
#include <internal/pycore_interp.h>
#ifdef PYMON_BUILD_CORE
#  undef Py_BUILD_CORE
#  undef PYMON_BUILD_CORE
#endif
#ifdef PYMON_STD_ATOMIC
#  define HAVE_STD_ATOMIC 1
#  undef PYMON_STD_ATOMIC
#endif

#endif

#if PYMON_TABLES || defined(Py_LIMITED_API)
typedef struct _PyMonitoringState {
    uint8_t active;
    uint8_t opaque;
} PyMonitoringState;
#endif

/* Event types by name alone, since a new version may change every id, with
   what callbacks get and the name of the function.  Two that belong to a call
   are switched by CALL, and INSTRUCTION is never fired. */
#if PY_VERSION_HEX >= 0x030E0000 || defined(Py_LIMITED_API)
#  define PYMON_BRANCHES(X) \
    X(VALUE, BRANCH_LEFT, BranchLeft) X(VALUE, BRANCH_RIGHT, BranchRight)
#else
#  define PYMON_BRANCHES(X) X(VALUE, BRANCH, Branch)
#endif
#define PYMON_EVENTS(X) \
    X(PLAIN, PY_START, PyStart) X(PLAIN, PY_RESUME, PyResume) \
    X(VALUE, PY_RETURN, PyReturn) X(VALUE, PY_YIELD, PyYield) \
    X(CALL, CALL, Call) X(LINE, LINE, Line) X(VALUE, JUMP, Jump) \
    PYMON_BRANCHES(X) X(VALUE, STOP_ITERATION, StopIteration) \
    X(RAISED, RAISE, Raise) X(RAISED, EXCEPTION_HANDLED, ExceptionHandled) \
    X(RAISED, PY_UNWIND, PyUnwind) X(RAISED, PY_THROW, PyThrow) \
    X(RAISED, RERAISE, Reraise)
#define PYMON_ID(ARGS, ID, NAME) PY_MONITORING_EVENT_ ## ID,

/* The last parameters of the functions. */
#define PYMON_PARAMETERS_PLAIN
#define PYMON_PARAMETERS_RAISED
#define PYMON_PARAMETERS_VALUE , PyObject *value
#define PYMON_PARAMETERS_CALL , PyObject *callable, PyObject *arg0
#define PYMON_PARAMETERS_LINE , int lineno

#ifdef Py_LIMITED_API
/* One binary is for many versions: these ids are its own, and no version's. */
enum {
    PYMON_FIRST_ID = 31,
    PYMON_EVENTS(PYMON_ID)
    PY_MONITORING_EVENT_INSTRUCTION,
    PY_MONITORING_EVENT_C_RETURN,
    PY_MONITORING_EVENT_C_RAISE
};
#else
#  define pymon_id(EVENT) (EVENT)
#endif
#if PY_VERSION_HEX >= 0x030E0000 || defined(Py_LIMITED_API)
/* 3.14 fires no BRANCH: its id has no place in the interpreter's tables. */
#  undef PY_MONITORING_EVENT_BRANCH
#  define PY_MONITORING_EVENT_BRANCH PY_MONITORING_EVENT_BRANCH_RIGHT
#else
#  define PY_MONITORING_EVENT_BRANCH_LEFT PY_MONITORING_EVENT_BRANCH
#  define PY_MONITORING_EVENT_BRANCH_RIGHT PY_MONITORING_EVENT_BRANCH
#endif

/* 3.14's needs an internal header. */
#if PY_VERSION_HEX < 0x030F0000 || defined(Py_LIMITED_API)
#  undef PY_MONITORING_IS_INSTRUMENTED_EVENT
#  define PY_MONITORING_IS_INSTRUMENTED_EVENT(ev) \
    ((ev) <= PY_MONITORING_EVENT_STOP_ITERATION)
#endif

/* Without sys.setprofile() and sys.settrace(), which are made for bytecode. */
#define PYMON_TOOLS 6
#define PYMON_TOOL_MASK ((1 << PYMON_TOOLS) - 1)

/* What threads share is read and written so that it may be.  PYMON_GIL:
   calling the tools for C_RETURN and C_RAISE, which the interpreters'
   functions do with wrong arguments, needs what a free-threaded build has no
   safe way to. */
#ifdef Py_GIL_DISABLED
#  define PYMON_GIL 0
#  define PYMON_LOAD(BYTE) _Py_atomic_load_uint8_relaxed(BYTE)
#  define PYMON_STORE(BYTE, VALUE) \
    _Py_atomic_store_uint8_relaxed(BYTE, VALUE)
#  define PYMON_AND(BYTE, MASK) ((void)_Py_atomic_and_uint8(BYTE, MASK))
#  define PYMON_LOAD_VERSION(VERSION) _Py_atomic_load_uint64_acquire(VERSION)
#else
#  define PYMON_GIL 1
#  define PYMON_LOAD(BYTE) (*(BYTE))
#  define PYMON_STORE(BYTE, VALUE) ((void)(*(BYTE) = (VALUE)))
#  define PYMON_AND(BYTE, MASK) ((void)(*(BYTE) &= (MASK)))
#  define PYMON_LOAD_VERSION(VERSION) (*(VERSION))
#endif

/* A variable that the source files of an extension share, where the compiler
   can say so: one may disable what another fires. */
#ifdef _WIN32
#  define PYMON_SHARED __declspec(selectany)
#elif defined(__GNUC__)
#  define PYMON_SHARED \
    __attribute__((weak, visibility("hidden")))
#else
#  define PYMON_SHARED static
#endif

/* A range of lines and columns in a file: lines from 1, columns from 0 in
   bytes of UTF-8, -1 where unknown. */
typedef struct {
    int lineno;
    int end_lineno;
    int col_offset;
    int end_col_offset;
} PyCodeLocation;

#define PyCode_LOCATION_OFFSET(i) _Py_STATIC_CAST(int32_t, 2 * (i))

/* One event on its way to the tools.  number is what stands for the location:
   the offset or, for LINE, the line. */
typedef struct {
    int id;
    const char *name;
    PyObject *codelike;
    int32_t offset;
    int number;
    int nargs;                      /* that callbacks get */
    PyObject *arg1;                 /* after code-like and number.  Both are */
    PyObject *arg2;                 /* the exception that is set, if any */
} pymon_event;

/* The event with which a tool switches this one on and disables it: that of
   C_RETURN and C_RAISE is CALL.  INSTRUCTION, which is never fired, stands for
   what is not sent; -1 for what is no event type. */
static inline int
pymon_base_event(int event)
{
#define PYMON_CASE(ARGS, ID, NAME) case PY_MONITORING_EVENT_ ## ID:
    switch (event) {
        PYMON_EVENTS(PYMON_CASE)
        case PY_MONITORING_EVENT_INSTRUCTION:
            return event;
        case PY_MONITORING_EVENT_C_RETURN:
        case PY_MONITORING_EVENT_C_RAISE:
            return PYMON_GIL ? PY_MONITORING_EVENT_CALL
                                           : PY_MONITORING_EVENT_INSTRUCTION;
        default:
            return -1;
    }
#undef PYMON_CASE
}

/* A new reference to dict[key], or NULL; with an exception set on error. */
static inline PyObject *
pymon_get(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX < 0x030D0000 || defined(Py_LIMITED_API)
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#else
    PyObject *value;
    (void)PyDict_GetItemRef(dict, key, &value);
    return value;
#endif
}

/* What a weak reference refers to, to be compared alone; None if it died. */
static inline PyObject *
pymon_referent(PyObject *ref)
{
    PyObject *referent = PyObject_CallNoArgs(ref);
    Py_XDECREF(referent);
    return referent;
}

/* An attribute of sys.monitoring: a new reference. */
static inline PyObject *
pymon_attribute(const char *name)
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

/* DISABLE or MISSING, which are immortal: a borrowed reference. */
static inline PyObject *
pymon_constant(const char *name)
{
    PyObject *constant = pymon_attribute(name);
    Py_XDECREF(constant);
    return constant;
}

/* Call a function of sys.monitoring. */
static inline PyObject *
pymon_call(const char *function, const char *format, ...)
{
    PyObject *callable = pymon_attribute(function);
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

/* The context of an exception, which keeps it. */
static inline PyObject *
pymon_context(PyObject *exc)
{
    PyObject *context = PyException_GetContext(exc);
    Py_XDECREF(context);
    return context;
}

/* The exception in the chain of contexts from start whose context is exc
   (NULL: the last one of the chain); NULL if there is none.  Assignments to
   __context__ can make a ring, whose end is where `slow` is overtaken. */
static inline PyObject *
pymon_find_context(PyObject *start, PyObject *exc)
{
    PyObject *slow = start;
    PyObject *link = start;
    for (int odd = 0;; odd = !odd) {
        PyObject *context = pymon_context(link);
        if (context == exc) {
            return link;
        }
        if (context == NULL || context == slow) {
            return NULL;
        }
        link = context;
        if (odd) {
            slow = pymon_context(slow);
        }
    }
}

/* Set the pending exception again, if there is one; or make another that is
   set carry it: its place in the chain of contexts is before what was being
   handled when that was set.  Steals the reference. */
static inline void
pymon_restore(PyObject *pending)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (raised == NULL || pending == NULL || raised == pending
        || pymon_find_context(raised, pending) != NULL)
    {
        PyErr_SetRaisedException(Py_XNewRef(raised ? raised : pending));
        Py_XDECREF(raised);
        Py_XDECREF(pending);
        return;
    }
    /* A callback may raise what pending has as a context: cut it out, or the
       chain would become a ring. */
    PyObject *link = pymon_find_context(pending, raised);
    if (link != NULL) {
        PyException_SetContext(link, NULL);
    }
    link = raised;
    if (pymon_find_context(raised, NULL) != NULL) {
        PyObject *handled = PyErr_GetHandledException();
        PyObject *context;
        while ((context = pymon_context(link)) != NULL && context != handled
               && pymon_find_context(pending, context) == NULL)
        {
            link = context;
        }
        Py_XDECREF(handled);
    }
    PyException_SetContext(link, pending);
    PyErr_SetRaisedException(raised);
}

/* ------ While callbacks run ------ */

/* Events that are fired meanwhile do nothing, and no frame's f_lineno may be
   set: none is at a line of the event.  With the limited C-API only this
   header knows of it, in the thread's dict. */
#ifdef Py_LIMITED_API

typedef PyObject *pymon_pause;

static inline int
pymon_is_paused(void)
{
    PyObject *dict = PyThreadState_GetDict();
    return dict == NULL
        || PyDict_GetItemString(dict, "pymonitoring_compat") != NULL;
}

/* To resume needs no memory.  Within a pause there is nothing to resume. */
static inline int
pymon_stop(pymon_pause *key)
{
    *key = NULL;
    if (pymon_is_paused()) {
        return 0;
    }
    *key = PyUnicode_FromString("pymonitoring_compat");
    if (*key == NULL
        || PyDict_SetItem(PyThreadState_GetDict(), *key, Py_None) < 0)
    {
        Py_CLEAR(*key);
        return -1;
    }
    return 0;
}

static inline void
pymon_resume(pymon_pause *key)
{
    if (*key != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        (void)PyDict_DelItem(PyThreadState_GetDict(), *key);
        Py_DECREF(*key);
        PyErr_SetRaisedException(raised);
    }
}

#else

typedef int pymon_pause;

static inline int
pymon_is_paused(void)
{
    return PyThreadState_Get()->tracing != 0;
}

static inline int
pymon_stop(pymon_pause *what)
{
    PyThreadState *tstate = PyThreadState_Get();
    *what = tstate->what_event;
    tstate->what_event = -1;
    tstate->tracing++;
    return 0;
}

static inline void
pymon_resume(pymon_pause *what)
{
    PyThreadState *tstate = PyThreadState_Get();
    tstate->tracing--;
    tstate->what_event = *what;
}

#endif

/* ------ What an interpreter has: 3.12 ------ */

#if PYMON_TABLES

/* What is known of the tables: nothing yet; that they are where they should be
   as far as idle ones show it; that the callbacks are, for local events; that
   all are; or that they are not.  It is a memory of what was found and nothing
   else: who compares again finds the same, be it another thread or
   interpreter. */
enum { PYMON_UNKNOWN, PYMON_IDLE, PYMON_CALLBACKS, PYMON_GOOD, PYMON_OFF };
PYMON_SHARED int pymon_status = PYMON_UNKNOWN;

/* Is the interpreter's structure as large as it should be?  Its first thread
   is at its end; asked first, so that nothing behind it is read. */
static inline int
pymon_check_size(PyInterpreterState *interp)
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
pymon_check_callbacks(PyInterpreterState *interp)
{
    const int tool = PYMON_TOOLS - 1;
    const int event = PY_MONITORING_EVENT_C_RAISE;
    PyObject **slot = &interp->monitoring_callables[tool][event];
    PyObject *probe = PyList_New(0);
    PyObject *old = probe ? pymon_call(
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
        PyObject *none = pymon_call(
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
pymon_check_tool(PyInterpreterState *interp, int tool)
{
    PyObject *name = pymon_call("get_tool", "(i)", tool);
    if (name == NULL) {
        return -1;
    }
    PyObject *expected = name == Py_None ? NULL : name;
    Py_DECREF(name);
    if (interp->monitoring_tool_names[tool] != expected) {
        return 0;
    }
    PyObject *set = pymon_call("get_events", "(i)", tool);
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

/* The tools that listen to anything, as the tables have it. */
static inline uint8_t
pymon_listeners(void)
{
    static const _Py_GlobalMonitors idle = {{0}};
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    int tools = 0;
    if (memcmp(&interp->monitors, &idle, sizeof(idle)) == 0) {
        return 0;
    }
    for (int e = 0; e < _PY_MONITORING_UNGROUPED_EVENTS; e++) {
        tools |= interp->monitors.tools[e];
    }
    return (uint8_t)(tools & PYMON_TOOL_MASK);
}

/* Compare the tables with what sys.monitoring says.  Return the status that
   they have then; -1 on error. */
static inline int
pymon_compare(PyInterpreterState *interp, int has_local)
{
    int good = pymon_check_size(interp)
        && interp->last_restart_version <= interp->monitoring_version;
    for (int tool = 0; good > 0 && tool < PYMON_TOOLS; tool++) {
        good = pymon_check_tool(interp, tool);
    }
    if (good > 0) {
        int listens = pymon_listeners() != 0;
        if (!listens && !has_local) {
            return PYMON_IDLE;
        }
        good = interp->monitoring_version != 0 || !listens
            ? pymon_check_callbacks(interp) : 0;
    }
    return good < 0 ? -1 : !good ? PYMON_OFF
        : pymon_listeners() != 0 ? PYMON_GOOD : PYMON_CALLBACKS;
}

/* The status of the tables, compared at first use and when a tool first
   listens, or first has local events on a code object that is fired for; -1 on
   error. */
static inline int
pymon_check(int has_local)
{
    int status = pymon_status;
    if (status >= PYMON_GOOD
        || (status >= (has_local ? PYMON_CALLBACKS : PYMON_IDLE)
            && pymon_listeners() == 0))
    {
        return status;
    }
    /* An audit hook may run a producer: in it nothing is asked, as in a
       callback, where events do nothing.  At the end of the interpreter there
       is nobody to ask. */
    if (pymon_is_paused() || PySys_GetObject("monitoring") == Py_None) {
        return PYMON_UNKNOWN;
    }
    PyObject *pending = PyErr_GetRaisedException();
    pymon_pause pause;
    (void)pymon_stop(&pause);
    status = pymon_compare(PyThreadState_Get()->interp, has_local);
    pymon_resume(&pause);
    if (status >= 0) {
        pymon_status = status;
    }
    if (status == PYMON_OFF && PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
            "the monitoring tables of this Python %d.%d.%d are not where an "
            "extension built for " PY_VERSION " looks for them: it signals no "
            "events", (int)(Py_Version >> 24 & 0xFF),
            (int)(Py_Version >> 16 & 0xFF), (int)(Py_Version >> 8 & 0xFF)) < 0)
    {
        status = -1;
    }
    pymon_restore(pending);
    return status;
}

/* What changes with the events of any tool; never 0. */
static inline uint64_t
pymon_version(void)
{
    return PyThreadState_Get()->interp->monitoring_version << 1 | 1;
}

/* What changes when disabled locations are to be forgotten. */
static inline uint64_t
pymon_restart_version(void)
{
    return PyThreadState_Get()->interp->last_restart_version;
}

/* The tools that listen to the event now. */
static inline uint8_t
pymon_tools(int event)
{
    int base = pymon_base_event(event);
    return base < 0 || base == PY_MONITORING_EVENT_INSTRUCTION ? 0
        : PyThreadState_Get()->interp->monitors.tools[base]
          & PYMON_TOOL_MASK;
}

/* The callback of a tool for an event: a new reference, or NULL. */
static inline PyObject *
pymon_callback(int tool, int event)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    return Py_XNewRef(interp->monitoring_callables[tool][event]);
}

static inline void
pymon_remove_callback(int tool, int event)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    Py_CLEAR(interp->monitoring_callables[tool][event]);
}

#define PYMON_IF_NATIVE(CALL)
#define PyMonitoringCompat_SendsEvents() (pymon_status != PYMON_OFF)

#else

/* ------ What an interpreter has: 3.13 and later ------ */

/* What may be missing where the binary runs: what an interpreter with the
   series has beside a stock one, which is then to CALL that, and with the
   limited C-API everything. */
#if defined(__GNUC__) && !defined(_WIN32) && !defined(__CYGWIN__)
#  ifdef __APPLE__
#    define PYMON_WEAK __attribute__((weak_import))
#  else
#    define PYMON_WEAK __attribute__((weak))
#  endif
#  ifdef __cplusplus
extern "C" {
#  endif
#  define PYMON_DECLARE(ARGS, ID, NAME) \
    PyAPI_FUNC(int) _PyMonitoring_Fire ## NAME ## Event( \
        PyMonitoringState *state, PyObject *codelike, int32_t offset \
        PYMON_PARAMETERS_ ## ARGS) PYMON_WEAK;
PYMON_DECLARE(CALL, C_RETURN, CallReturn)
PYMON_DECLARE(CALL, C_RAISE, CallRaise)
PyAPI_FUNC(PyObject *) _PyMonitoring_Vectorcall(
    PyMonitoringState *call_state, PyMonitoringState *c_return_state,
    PyMonitoringState *c_raise_state, PyObject *codelike, int32_t offset,
    PyObject *callable, PyObject *const *args, size_t nargsf,
    PyObject *kwnames) PYMON_WEAK;
PyAPI_FUNC(int) _PyMonitoring_SetFrameNamespaces(
    PyObject *codelike, PyObject *globals, PyObject *locals) PYMON_WEAK;
PyAPI_FUNC(int) _PyMonitoring_AddTraceback(
    PyObject *codelike, int32_t offset, int lineno) PYMON_WEAK;
PyAPI_FUNC(PyObject *) PyCode_NewWithLocations(
    PyObject *filename, PyObject *name, PyObject *qualname, int firstlineno,
    const PyCodeLocation *locations, Py_ssize_t num_locations) PYMON_WEAK;
#  ifdef Py_LIMITED_API
PyAPI_FUNC(int) PyMonitoring_EnterScope(
    PyMonitoringState *state_array, uint64_t *version,
    const uint8_t *event_types, Py_ssize_t length) PYMON_WEAK;
PYMON_EVENTS(PYMON_DECLARE)
PYMON_DECLARE(VALUE, BRANCH, Branch)
PYMON_DECLARE(VALUE, C_RETURN, CReturn)
PYMON_DECLARE(PLAIN, C_RAISE, CRaise)
#  endif
#  ifdef __cplusplus
}
#  endif
#  define PYMON_IF_NATIVE(CALL) \
    if (&_PyMonitoring_Vectorcall != NULL) { \
        return CALL; \
    }
#elif defined(Py_LIMITED_API)
#  error "pymonitoring_compat.h needs weak symbols for the limited C-API"
#else
#  define PYMON_IF_NATIVE(CALL)
#endif

#ifdef Py_LIMITED_API

static inline int
PyMonitoringCompat_SendsEvents(void)
{
    return &PyMonitoring_EnterScope != NULL;
}

/* The ids of the interpreter, each plus one; 0 where not known yet. */
PYMON_SHARED uint8_t pymon_ids[
    PY_MONITORING_EVENT_C_RAISE - PYMON_FIRST_ID] = {0};

static inline int
pymon_find_ids(void)
{
#define PYMON_NAME(ARGS, ID, NAME) #ID,
    static const char *const names[] = {
        PYMON_EVENTS(PYMON_NAME)
        "INSTRUCTION", "C_RETURN", "C_RAISE",
    };
#undef PYMON_NAME
    uint8_t ids[sizeof(pymon_ids)];
    PyObject *events = pymon_attribute("events");
    for (size_t i = 0; events != NULL && i < sizeof(ids); i++) {
        int is_one = Py_Version < 0x030E0000
            && strncmp(names[i], "BRANCH", 6) == 0;
        PyObject *set = PyObject_GetAttrString(
            events, is_one ? "BRANCH" : names[i]);
        unsigned long bits = set == NULL ? 0 : PyLong_AsUnsignedLong(set);
        Py_XDECREF(set);
        if (PyErr_Occurred()) {
            Py_CLEAR(events);
        }
        for (ids[i] = 0; bits != 0; bits >>= 1) {
            ids[i]++;
        }
    }
    if (events == NULL) {
        return -1;
    }
    Py_DECREF(events);
    /* The first one says that all are known. */
    for (size_t i = sizeof(ids); i > 0; i--) {
        pymon_ids[i - 1] = ids[i - 1];
    }
    return 0;
}

#define pymon_id(EVENT) \
    (pymon_ids[(EVENT) - PYMON_FIRST_ID - 1] - 1)

/* The interpreter's function, for these ids. */
static inline int
pymon_enter(PyMonitoringState *state_array, uint64_t *version,
            const uint8_t *event_types, Py_ssize_t length)
{
    uint8_t few[32];
    uint8_t *ids = length <= (Py_ssize_t)sizeof(few)
                   ? few : (uint8_t *)PyMem_Malloc((size_t)length);
    if (ids == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        ids[i] = (uint8_t)(pymon_base_event(event_types[i]) < 0
                           ? 255 : pymon_id(event_types[i]));
    }
    int err = PyMonitoring_EnterScope(state_array, version, ids, length);
    if (ids != few) {
        PyMem_Free(ids);
    }
    return err;
}

#else
#  define PyMonitoringCompat_SendsEvents() 1
#  define pymon_enter PyMonitoring_EnterScope
#endif

/* What changes with the events of any tool; never 0.  (The interpreter's low
   bits are free, and asking for no states costs little.) */
static inline uint64_t
pymon_version(void)
{
    uint64_t version = 0;
    (void)PyMonitoring_EnterScope(NULL, &version, NULL, 0);
    return version | 1;
}

/* Nothing else is known of sys.monitoring.restart_events(). */
#define pymon_restart_version pymon_version

/* The tools that listen to the event now. */
static inline uint8_t
pymon_tools(int event)
{
    int base = pymon_base_event(event);
    if (base < 0 || base == PY_MONITORING_EVENT_INSTRUCTION) {
        return 0;
    }
    PyMonitoringState state = {0, 0};
    uint8_t type = (uint8_t)base;
    uint64_t version = 0;
    (void)pymon_enter(&state, &version, &type, 1);
    return state.active & PYMON_TOOL_MASK;
}

/* The tools that listen to anything. */
static inline uint8_t
pymon_listeners(void)
{
    static const uint8_t types[] = {
        PYMON_EVENTS(PYMON_ID) PY_MONITORING_EVENT_INSTRUCTION
    };
    PyMonitoringState states[sizeof(types)];
    uint64_t version = 0;
    int tools = 0;
    memset(states, 0, sizeof(states));
    (void)pymon_enter(states, &version, types, sizeof(types));
    for (size_t i = 0; i < sizeof(types); i++) {
        tools |= states[i].active;
    }
    return (uint8_t)(tools & PYMON_TOOL_MASK);
}

/* The function of the interpreter for an event.  Only the series has those of
   C_RETURN and C_RAISE. */
static inline int
pymon_native(PyMonitoringState *state, const pymon_event *event)
{
#define PYMON_ARGS_PLAIN
#define PYMON_ARGS_RAISED
#define PYMON_ARGS_VALUE , event->arg1
#define PYMON_ARGS_CALL , event->arg1, event->arg2
#define PYMON_ARGS_LINE , event->number
#define PYMON_CASE(ARGS, ID, NAME) \
    case PY_MONITORING_EVENT_ ## ID: \
        return _PyMonitoring_Fire ## NAME ## Event( \
            state, event->codelike, event->offset PYMON_ARGS_ ## ARGS);
#ifdef Py_LIMITED_API
    if (&_PyMonitoring_FireBranchLeftEvent == NULL
        && (event->id == PY_MONITORING_EVENT_BRANCH_LEFT
            || event->id == PY_MONITORING_EVENT_BRANCH_RIGHT))
    {
        return _PyMonitoring_FireBranchEvent(state, event->codelike,
                                             event->offset, event->arg1);
    }
#endif
    switch (event->id) {
        PYMON_EVENTS(PYMON_CASE)
#ifdef PYMON_WEAK
        PYMON_CASE(CALL, C_RETURN, CallReturn)
        PYMON_CASE(CALL, C_RAISE, CallRaise)
#endif
        default:
            return 0;
    }
#undef PYMON_CASE
}

#if PYMON_GIL

/* The callback of a tool for an event: a new reference, or NULL, with an
   exception set on error.  Only what replaces it is given it, so it is taken
   away and put back.  Threads do not come between, but audit hooks do: what is
   registered meanwhile stays. */
static inline PyObject *
pymon_callback(int tool, int event)
{
    const size_t nargs = 3 | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *callback = NULL;
    PyObject *replace = pymon_attribute("register_callback");
    PyObject *args[4] = {
        NULL, PyLong_FromLong(tool),
        PyLong_FromLong(1L << pymon_id(event)),
        Py_None,
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
pymon_remove_callback(int tool, int event)
{
    Py_XDECREF(pymon_call("register_callback", "(iiO)", tool,
                          1 << pymon_id(event), Py_None));
}

#endif

#endif

/* ------ Calling the tools ------ */

#if PYMON_GIL

/* Call the tools' callbacks.  Return those that asked for DISABLE, or -1. */
static inline int
pymon_call_callbacks(const pymon_event *event, uint8_t tools)
{
    PyObject *args[5] = {
        NULL, event->codelike, PyLong_FromLong(event->number), event->arg1,
        event->arg2,
    };
    int disabling = 0;
    pymon_pause pause;
    if (args[2] == NULL || pymon_stop(&pause) < 0) {
        Py_XDECREF(args[2]);
        return -1;
    }
    for (int tool = PYMON_TOOLS - 1; tool >= 0; tool--) {
        if (!(tools >> tool & 1)) {
            continue;
        }
        PyObject *callback = pymon_callback(tool, event->id);
        PyObject *res = callback == NULL ? NULL : PyObject_Vectorcall(
            callback, args + 1,
            (size_t)event->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        PyObject *disable = res == NULL || res == Py_None ? Py_None
            : pymon_constant("DISABLE");
        int ends = disable == NULL || (res == NULL && PyErr_Occurred());
        Py_XDECREF(callback);
        Py_XDECREF(res);
        if (ends) {
            disabling = -1;
            break;
        }
        if (res != disable || res == Py_None) {
            continue;
        }
        if (!PY_MONITORING_IS_INSTRUMENTED_EVENT(event->id)) {
            /* Left in place, the callback would raise again and again. */
            pymon_remove_callback(tool, event->id);
            PyErr_Format(PyExc_ValueError,
                         "Cannot disable %s events. Callback removed.",
                         event->name);
            disabling = -1;
            break;
        }
        disabling |= 1 << tool;
    }
    pymon_resume(&pause);
    Py_DECREF(args[2]);
    return disabling;
}

#endif

#if PYMON_TABLES
#  define pymon_call_tools pymon_call_callbacks
#else

/* The same, by the interpreter's function where that has the arguments. */
static inline int
pymon_call_tools(const pymon_event *event, uint8_t tools)
{
#if PYMON_GIL
    if (event->id == PY_MONITORING_EVENT_C_RETURN
        || event->id == PY_MONITORING_EVENT_C_RAISE)
    {
        return pymon_call_callbacks(event, tools);
    }
#endif
    PyMonitoringState state = {tools, 0};
#ifdef Py_LIMITED_API
    pymon_pause pause;
    if (pymon_stop(&pause) < 0) {
        return -1;
    }
#endif
    if (event->nargs == 3 && event->arg2 != NULL) {
        PyErr_SetRaisedException(Py_NewRef(event->arg1));
    }
    int err = pymon_native(&state, event);
#ifdef Py_LIMITED_API
    pymon_resume(&pause);
#endif
    return err < 0 ? -1 : tools & ~state.active;
}

#endif

/* ------ Local events of code objects ------ */

/* Has any tool ever had local events on the code-like?  It is asked of every
   code object, and nothing else is. */
static inline int
pymon_has_local(PyObject *codelike)
{
#ifdef Py_LIMITED_API
    (void)codelike;
    return 0;
#else
    if (codelike == NULL || !PyCode_Check(codelike)) {
        return 0;
    }
    PYMON_IF_NATIVE(0)
    PyCodeObject *code = (PyCodeObject *)codelike;
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_ptr_acquire(&code->_co_monitoring) != NULL;
#else
    return code->_co_monitoring != NULL;
#endif
#endif
}

/* Is an event worth firing? */
#define PYMON_ACTIVE(STATE, CODELIKE) \
    (PYMON_LOAD(&(STATE)->active) || pymon_has_local(CODELIKE))

/* Those of some tools that chose the event for its code-like; -1 on error. */
static inline int
pymon_local_tools(const pymon_event *event, int tools)
{
    int base = pymon_base_event(event->id);
    if (tools == 0 || base == PY_MONITORING_EVENT_INSTRUCTION
        || !PY_MONITORING_IS_INSTRUMENTED_EVENT(base))
    {
        return 0;
    }
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED) \
    && !defined(Py_LIMITED_API)
#if PYMON_TABLES
    int status = pymon_check(1);
    if (status != PYMON_GOOD && status != PYMON_CALLBACKS) {
        return status < 0 ? -1 : 0;
    }
#endif
    PyCodeObject *code = (PyCodeObject *)event->codelike;
    return tools & code->_co_monitoring->local_monitors.tools[base];
#else
    int local = 0;
    for (int tool = 0; tool < PYMON_TOOLS; tool++) {
        if (!(tools >> tool & 1)) {
            continue;
        }
        PyObject *set = pymon_call("get_local_events", "(iO)",
                                   tool, event->codelike);
        if (set != NULL) {
            unsigned long events = PyLong_AsUnsignedLong(set);
            local |= (int)(events >> pymon_id(base) & 1) << tool;
            Py_DECREF(set);
        }
        /* The tool is not in use, or this is no code object. */
        else if (PyErr_ExceptionMatches(PyExc_ValueError)
                 || PyErr_ExceptionMatches(PyExc_TypeError))
        {
            PyErr_Clear();
        }
        else {
            return -1;
        }
    }
    return local;
#endif
}

/* ------ Disabled locations ------ */

/* Did any location become disabled?  Until then nothing is looked up. */
PYMON_SHARED uint8_t pymon_any_disabled = 0;

/* What is disabled in the interpreter, in its dict: a tuple of the version for
   which it holds and a dict {id of a code-like: (weak reference, {location:
   tools})}.  All extensions share it, each with its own copy of this header:
   another layout, or another meaning, needs another key.

   Return a new reference to the dict, or NULL. */
#define PYMON_KEY "pymonitoring_compat 2"

static inline PyObject *
pymon_all_disabled(PyObject *interpreter_dict)
{
    PyObject *key = PyUnicode_FromString(PYMON_KEY);
    PyObject *version = PyLong_FromUnsignedLongLong(pymon_restart_version());
    PyObject *pair = NULL;
    PyObject *disabled = NULL;
    if (key != NULL && version != NULL) {
        pair = pymon_get(interpreter_dict, key);
        if ((pair == NULL && !PyErr_Occurred())
            || (pair != NULL && PyObject_RichCompareBool(
                PyTuple_GetItem(pair, 0), version, Py_NE) > 0))
        {
            Py_XDECREF(pair);
            pair = Py_BuildValue("(O{})", version);
            if (pair != NULL
                && PyDict_SetItem(interpreter_dict, key, pair) < 0)
            {
                Py_CLEAR(pair);
            }
        }
    }
    if (pair != NULL) {
        disabled = Py_NewRef(PyTuple_GetItem(pair, 1));
    }
    Py_XDECREF(pair);
    Py_XDECREF(key);
    Py_XDECREF(version);
    return disabled;
}

/* The weak reference of a code-like died: self is the id. */
static inline PyObject *
pymon_forget(PyObject *self, PyObject *ref)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *disabled = dict ? pymon_all_disabled(dict) : NULL;
    PyObject *entry = disabled ? pymon_get(disabled, self) : NULL;
    if (entry != NULL && PyTuple_GetItem(entry, 0) == ref
        && pymon_referent(ref) == Py_None)
    {
        (void)PyDict_DelItem(disabled, self);
    }
    Py_XDECREF(entry);
    Py_XDECREF(disabled);
    /* It may stay: its reference shows that it is dead. */
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static PyMethodDef pymon_forget_def = {
    "forget", pymon_forget, METH_O, NULL
};

static inline int
pymon_disable_in(PyObject *interpreter_dict, const pymon_event *event,
                 int more)
{
    int tools = -1;
    PyObject *disabled = pymon_all_disabled(interpreter_dict);
    PyObject *id = PyLong_FromVoidPtr(event->codelike);
    PyObject *location = PyLong_FromUnsignedLongLong(
        (unsigned long long)pymon_id(pymon_base_event(event->id)) << 32
        | (uint32_t)event->number);
    PyObject *entry = NULL;
    PyObject *value = NULL;
    PyObject *callback = NULL;
    PyObject *ref = NULL;
    if (disabled == NULL || id == NULL || location == NULL) {
        goto done;
    }
    entry = pymon_get(disabled, id);
    /* An address may be used again. */
    if (entry != NULL && pymon_referent(
            PyTuple_GetItem(entry, 0)) != event->codelike)
    {
        Py_CLEAR(entry);
    }
    if (entry != NULL) {
        value = pymon_get(PyTuple_GetItem(entry, 1), location);
    }
    if (PyErr_Occurred()) {
        goto done;
    }
    tools = value ? (int)PyLong_AsLong(value) : 0;
    if ((more & ~tools) == 0) {
        goto done;
    }
    tools |= more;
    Py_XDECREF(value);
    value = PyLong_FromLong(tools);
    if (value == NULL) {
        tools = -1;
    }
    else if (entry != NULL) {
        if (PyDict_SetItem(PyTuple_GetItem(entry, 1), location, value) < 0) {
            tools = -1;
        }
    }
    else if ((callback = PyCFunction_New(&pymon_forget_def, id)) == NULL
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
   tools for which it is disabled; -1 on error: TypeError if the code-like
   cannot be weakly referenced. */
static inline int
pymon_disable(const pymon_event *event, int more)
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
    tools = pymon_disable_in(dict, event, more);
#ifdef Py_GIL_DISABLED
    Py_END_CRITICAL_SECTION();
#endif
    return tools;
}

/* ------ Firing ------ */

/* Call the tools for an event whose arguments are good.  Called, and returns
   when there is no error, without an exception set. */
static inline int
pymon_dispatch(PyMonitoringState *state, const pymon_event *event, int tools)
{
    if (PYMON_LOAD(&pymon_any_disabled)) {
        int disabled = pymon_disable(event, 0);
        if (disabled < 0) {
            return -1;
        }
        tools &= ~disabled;
    }
    int disabling = tools
        ? pymon_call_tools(event, (uint8_t)tools) : 0;
    if (disabling <= 0) {
        return disabling;
    }
    if (pymon_disable(event, disabling) >= 0) {
        PYMON_STORE(&pymon_any_disabled, 1);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        return -1;
    }
    PyErr_Clear();
    /* For the state, until it is next written. */
    PYMON_AND(&state->active, (uint8_t)~disabling);
    return 0;
}

static inline int
pymon_fire(PyMonitoringState *state, pymon_event *event)
{
    int active = PYMON_LOAD(&state->active);
    PYMON_IF_NATIVE(pymon_native(state, event))
    if (pymon_is_paused()) {
        return 0;
    }
    int tools = active ? active & pymon_tools(event->id) : 0;
#ifdef Py_LIMITED_API
    int others = active & ~tools;
#else
    int others = !pymon_has_local(event->codelike) ? 0
        : PYMON_TOOL_MASK & ~tools;
#endif
    if (tools == 0 && others == 0) {
        return 0;
    }
    int err = -1;
    int is_exception;
    PyObject *stop = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    int local = pymon_local_tools(event, others);
    if (local < 0) {
        goto done;
    }
    tools |= local;
    if (tools == 0) {
        err = 0;
        goto done;
    }
    if (event->offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event->name, (int)event->offset);
        goto done;
    }
    is_exception = event->nargs == 3 && event->arg1 == NULL;
    if (is_exception) {
        event->arg1 = event->arg2 = pending;
    }
    if (event->nargs == 4 && event->arg1 == NULL) {
        event->arg1 = event->arg2 = pymon_constant("MISSING");
        if (event->arg1 == NULL) {
            goto done;
        }
    }
    if (pending == NULL && (is_exception
                            || event->id == PY_MONITORING_EVENT_C_RAISE))
    {
        PyErr_Format(PyExc_ValueError,
                     "Firing event %d with no exception set", event->id);
        goto done;
    }
    if (event->id == PY_MONITORING_EVENT_STOP_ITERATION
        && !PyObject_TypeCheck(event->arg1,
                               (PyTypeObject *)PyExc_StopIteration))
    {
        stop = event->arg1 = PyObject_CallFunctionObjArgs(
            PyExc_StopIteration, event->arg1, NULL);
        if (stop == NULL) {
            goto done;
        }
    }
    err = pymon_dispatch(state, event, tools);
done:
    Py_XDECREF(stop);
    pymon_restore(pending);
    return err;
}

/* ------ The API: scopes ------ */

#ifdef Py_GIL_DISABLED
/* Held while states and their version are written. */
PYMON_SHARED PyMutex pymon_mutex = {0};
#endif

static inline int
pymon_write_states(PyMonitoringState *state_array, uint64_t *version,
                   const uint8_t *event_types, Py_ssize_t length)
{
    int err = 0;
    Py_ssize_t bad = 0;
    while (bad < length && pymon_base_event(event_types[bad]) >= 0) {
        bad++;
    }
#if PYMON_TABLES
    int status = pymon_check(0);
    uint64_t current = status > PYMON_UNKNOWN ? pymon_version() : 0;
    int reads = status == PYMON_GOOD;
    err = status < 0 ? -1 : 0;
#else
    /* Read at once, as they mostly can be: the interpreter has no place for
       C_RETURN and C_RAISE, and does not write as threads may read. */
    PyMonitoringState found[32];
    uint8_t types[32];
    Py_ssize_t few = length <= (Py_ssize_t)sizeof(types) ? length : 0;
    uint64_t current = 0;
    int reads = 1;
    for (Py_ssize_t i = 0; i < few; i++) {
        int base = pymon_base_event(event_types[i]);
        types[i] = (uint8_t)(base < 0 ? PY_MONITORING_EVENT_INSTRUCTION
                                      : base);
    }
    memset(found, 0, sizeof(found));
#ifdef Py_GIL_DISABLED
    PyMutex_Lock(&pymon_mutex);
#endif
    (void)pymon_enter(found, &current, types, few);
    current |= 1;
#endif
    bad = bad < length && reads && pymon_listeners() != 0 ? bad : -1;
#ifdef Py_LIMITED_API
    /* Who listens to anything may have local events on any code object. */
    int local = pymon_listeners();
#else
    const int local = 0;
#endif
    for (Py_ssize_t i = 0; i < length; i++) {
        int tools = 0;
        if (bad < 0 && reads) {
#if PYMON_TABLES
            tools = pymon_tools(event_types[i]);
#else
            tools = few == 0 ? pymon_tools(event_types[i])
                : types[i] == PY_MONITORING_EVENT_INSTRUCTION ? 0
                : found[i].active & PYMON_TOOL_MASK;
#endif
            if (PY_MONITORING_IS_INSTRUMENTED_EVENT(
                    pymon_base_event(event_types[i]))) {
                tools |= local;
            }
        }
        PYMON_STORE(&state_array[i].active, (uint8_t)tools);
        PYMON_STORE(&state_array[i].opaque, 0);
    }
    current = bad < 0 ? current : 0;
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint64_release(version, current);
    PyMutex_Unlock(&pymon_mutex);
#else
    *version = current;
#endif
    if (bad >= 0) {
        PyObject *pending = PyErr_GetRaisedException();
        PyErr_Format(PyExc_ValueError,
                     "event_types[%zd] is %d, which is no event type", bad,
                     event_types[bad]);
        pymon_restore(pending);
        return -1;
    }
    return err;
}

static inline int
pymon_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                 const uint8_t *event_types, Py_ssize_t length)
{
#ifdef Py_LIMITED_API
    int sends = PyMonitoringCompat_SendsEvents();
    if (sends && pymon_ids[0] == 0) {
        PyObject *pending = PyErr_GetRaisedException();
        sends = pymon_find_ids() < 0 ? -1 : 1;
        pymon_restore(pending);
    }
    if (sends <= 0) {
        memset(state_array, 0, (size_t)length * sizeof(*state_array));
        *version = 0;
        return sends;
    }
#endif
    PYMON_IF_NATIVE(pymon_enter(state_array, version, event_types, length))
    uint64_t entered = PYMON_LOAD_VERSION(version);
    return entered != 0 && entered == pymon_version()
        ? 0 : pymon_write_states(state_array, version, event_types, length);
}

static inline int
pymon_ExitScope(void)
{
    return 0;
}

/* ------ The API: events ------ */

/* What callbacks get after code-like and number. */
#define PYMON_FIELDS_PLAIN offset, 2, NULL, NULL
#define PYMON_FIELDS_RAISED offset, 3, NULL, NULL
#define PYMON_FIELDS_VALUE offset, 3, value, NULL
#define PYMON_FIELDS_CALL offset, 4, callable, arg0
#define PYMON_FIELDS_LINE lineno, 2, NULL, NULL

#define PYMON_DEFINE(ARGS, ID, NAME) \
    static inline int \
    pymon_Fire ## NAME ## Event( \
        PyMonitoringState *state, PyObject *codelike, int32_t offset \
        PYMON_PARAMETERS_ ## ARGS) \
    { \
        if (!PYMON_ACTIVE(state, codelike)) { \
            return 0; \
        } \
        pymon_event event = { \
            PY_MONITORING_EVENT_ ## ID, #ID, codelike, offset, \
            PYMON_FIELDS_ ## ARGS \
        }; \
        return pymon_fire(state, &event); \
    }

PYMON_EVENTS(PYMON_DEFINE)
PYMON_DEFINE(CALL, C_RETURN, CallReturn)
PYMON_DEFINE(CALL, C_RAISE, CallRaise)
#if PY_VERSION_HEX >= 0x030E0000 || defined(Py_LIMITED_API)
#  define pymon_FireBranchEvent pymon_FireBranchRightEvent
#else
#  define pymon_FireBranchLeftEvent pymon_FireBranchEvent
#  define pymon_FireBranchRightEvent pymon_FireBranchEvent
#endif

static inline int
pymon_FireCReturnEvent(PyMonitoringState *state, PyObject *codelike,
                       int32_t offset, PyObject *retval)
{
    (void)retval;
    PYMON_IF_NATIVE(!PYMON_LOAD(&state->active) ? 0
        : _PyMonitoring_FireCReturnEvent(state, codelike, offset, retval))
    return pymon_FireCallReturnEvent(state, codelike, offset, NULL, NULL);
}

static inline int
pymon_FireCRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                      int32_t offset)
{
    PYMON_IF_NATIVE(!PYMON_LOAD(&state->active) ? 0
        : _PyMonitoring_FireCRaiseEvent(state, codelike, offset))
    return pymon_FireCallRaiseEvent(state, codelike, offset, NULL, NULL);
}

#ifdef Py_LIMITED_API
/* A type that the module types names. */
static inline PyObject *
pymon_type(const char *name)
{
    PyObject *module = PyImport_ImportModule("types");
    PyObject *type = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return type;
}
#endif

/* Is it a Python function, or a bound method of one?  -1 on error. */
static inline int
pymon_is_function(PyObject *callable)
{
#ifdef Py_LIMITED_API
    PyObject *function_type = pymon_type("FunctionType");
    PyObject *method_type = pymon_type("MethodType");
    PyObject *function = function_type == NULL || method_type == NULL ? NULL
        : (PyObject *)Py_TYPE(callable) != method_type ? Py_NewRef(callable)
        : PyObject_GetAttrString(callable, "__func__");
    int found = function == NULL ? -1
        : (PyObject *)Py_TYPE(function) == function_type;
    Py_XDECREF(function);
    Py_XDECREF(function_type);
    Py_XDECREF(method_type);
    return found;
#else
    return PyFunction_Check(PyMethod_Check(callable)
                            ? PyMethod_GET_FUNCTION(callable) : callable);
#endif
}

static inline PyObject *
pymon_Vectorcall(PyMonitoringState *call_state,
                 PyMonitoringState *c_return_state,
                 PyMonitoringState *c_raise_state, PyObject *codelike,
                 int32_t offset, PyObject *callable, PyObject *const *args,
                 size_t nargsf, PyObject *kwnames)
{
    if (!PYMON_ACTIVE(call_state, codelike)) {
        return PyObject_Vectorcall(callable, args, nargsf, kwnames);
    }
    PYMON_IF_NATIVE(
        _PyMonitoring_Vectorcall(call_state, c_return_state, c_raise_state,
                                 codelike, offset, callable, args, nargsf,
                                 kwnames))
    PyObject *arg0 = PyVectorcall_NARGS(nargsf) > 0 ? args[0]
        : pymon_constant("MISSING");
    if (arg0 == NULL) {
        return NULL;
    }
    int is_function = pymon_is_function(callable);
    if (is_function < 0
        || pymon_FireCallEvent(call_state, codelike, offset, callable,
                               arg0) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(callable, args, nargsf, kwnames);
    if (is_function) {
        return result;
    }
    if (result == NULL) {
        (void)pymon_FireCallRaiseEvent(
            c_raise_state, codelike, offset, callable, arg0);
    }
    else if (pymon_FireCallReturnEvent(
        c_return_state, codelike, offset, callable, arg0) < 0)
    {
        Py_CLEAR(result);
    }
    return result;
}

/* Only the series has frames of foreign code. */
static inline int
pymon_SetFrameNamespaces(PyMonitoringState *state, PyObject *codelike,
                         PyObject *globals, PyObject *locals)
{
    (void)state;
    (void)codelike;
    (void)globals;
    (void)locals;
    PYMON_IF_NATIVE(!PYMON_LOAD(&state->active) ? 0
        : _PyMonitoring_SetFrameNamespaces(codelike, globals, locals))
    return 0;
}

/* ------ The API: code objects made of locations ------ */

static inline const char *
pymon_find_problem(const PyCodeLocation *at)
{
    int end_lineno = at->end_lineno < 0 ? at->lineno : at->end_lineno;
    if (at->lineno < -1 || at->lineno == 0) {
        return "lineno must be positive, or -1";
    }
    if (at->end_lineno < -1 || at->end_lineno == 0) {
        return "end_lineno must be positive, or -1";
    }
    if (at->col_offset < -1 || at->end_col_offset < -1) {
        return "col_offset and end_col_offset must not be negative, or be -1";
    }
    if (at->lineno < 0 && (end_lineno & at->col_offset & at->end_col_offset)
                          != -1)
    {
        return "without lineno, all must be -1";
    }
    if (end_lineno < at->lineno) {
        return "end_lineno is before lineno";
    }
    return end_lineno == at->lineno && at->end_col_offset >= 0
           && at->end_col_offset < at->col_offset
        ? "end_col_offset is before col_offset" : NULL;
}

static inline uint8_t *
pymon_write_number(uint8_t *end, unsigned int number)
{
    for (; number >= 64; number >>= 6) {
        *end++ = (uint8_t)(64 | (number & 63));
    }
    *end++ = (uint8_t)number;
    return end;
}

/* Write an entry of a location table for some code units, at most 8.  It is a
   byte of the kind and the number of units, and numbers. */
#define PYMON_ENTRY_SIZE (1 + 4 * 6)

static inline uint8_t *
pymon_write_entry(uint8_t *end, const PyCodeLocation *at, int units,
                  int *last_line)
{
    uint8_t *start = end++;
    int delta = at->lineno - *last_line;
    int lines = at->end_lineno < 0 ? 0 : at->end_lineno - at->lineno;
    int column = at->col_offset;
    int end_column = at->end_col_offset;
    int has_columns = lines == 0 && column >= 0 && end_column >= 0;
    int kind;
    if (at->lineno < 0) {
        kind = 15;
    }
    else if (has_columns && delta == 0 && column < 80
             && end_column - column < 16)
    {
        kind = column / 8;
        *end++ = (uint8_t)(column % 8 << 4 | (end_column - column));
    }
    else if (has_columns && delta >= 0 && delta < 3 && end_column < 128) {
        kind = 10 + delta;
        *end++ = (uint8_t)column;
        *end++ = (uint8_t)end_column;
    }
    else {
        end = pymon_write_number(
            end, delta < 0 ? (0u - (unsigned int)delta) << 1 | 1
                           : (unsigned int)delta << 1);
        kind = lines == 0 && column < 0 && end_column < 0 ? 13 : 14;
        if (kind == 14) {
            end = pymon_write_number(end, (unsigned int)lines);
            end = pymon_write_number(end, (unsigned int)column + 1);
            end = pymon_write_number(end, (unsigned int)end_column + 1);
        }
    }
    if (at->lineno > 0) {
        *last_line = at->lineno;
    }
    *start = (uint8_t)(128 | kind << 3 | (units - 1));
    return end;
}

/* The table for code units at these locations, and some more at none. */
static inline PyObject *
pymon_new_table(const PyCodeLocation *locations, Py_ssize_t num_locations,
                Py_ssize_t more, int line)
{
    static const PyCodeLocation unknown = {-1, -1, -1, -1};
    uint8_t *table = (size_t)(num_locations + more)
                     > (size_t)-1 / PYMON_ENTRY_SIZE ? NULL
        : (uint8_t *)PyMem_Malloc((size_t)(num_locations + more)
                                  * PYMON_ENTRY_SIZE);
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    uint8_t *end = table;
    for (Py_ssize_t i = 0; i < num_locations; i++) {
        end = pymon_write_entry(end, &locations[i], 1, &line);
    }
    for (; more > 0; more--) {
        end = pymon_write_entry(end, &unknown, 1, &line);
    }
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)table,
                                                end - table);
    PyMem_Free(table);
    return bytes;
}

/* Read four numbers of a tuple, None as -1; -1 if they are no location, with
   an exception set or not. */
static inline int
pymon_read_row(PyObject *row, Py_ssize_t first, PyCodeLocation *location)
{
    int *const numbers[] = {&location->lineno, &location->end_lineno,
                            &location->col_offset, &location->end_col_offset};
    if (!PyTuple_Check(row) || PyTuple_Size(row) != first + 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        PyObject *item = PyTuple_GetItem(row, first + i);
        *numbers[i] = item == Py_None ? -1 : (int)PyLong_AsLong(item);
    }
    return PyErr_Occurred() || pymon_find_problem(location) != NULL ? -1 : 0;
}

/* Code that raises AssertionError if it runs: RESUME, and two instructions
   that raise it; or a generator's. */
static inline PyObject *
pymon_sample(int is_generator)
{
#ifdef Py_LIMITED_API
    PyObject *builtins = PyImport_ImportModule("builtins");
    /* Py_CompileString() would leave out an assert under python -O. */
    PyObject *module = builtins ? PyObject_CallMethod(
        builtins, "compile", "sssiii",
        is_generator ? "def f(): yield" : "def f(): assert 0", "", "exec", 0,
        1, 0) : NULL;
    PyObject *consts = module ? PyObject_GetAttrString(module, "co_consts")
                              : NULL;
    PyObject *code = consts ? Py_XNewRef(PyTuple_GetItem(consts, 0)) : NULL;
    Py_XDECREF(builtins);
    Py_XDECREF(module);
    Py_XDECREF(consts);
    return code;
#else
    (void)is_generator;
    return (PyObject *)PyCode_NewEmpty("", "", 1);
#endif
}

/* A code object with other attributes: names and values as by Py_BuildValue().
   Steals the reference to the code object, which may be NULL on error. */
static inline PyObject *
pymon_replace(PyObject *code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    PyObject *kwargs = Py_VaBuildValue(format, list);
    va_end(list);
    PyObject *replace = code ? PyObject_GetAttrString(code, "replace") : NULL;
    PyObject *args = replace ? PyTuple_New(0) : NULL;
    PyObject *replaced = args && kwargs ? PyObject_Call(replace, args, kwargs)
                                        : NULL;
    Py_XDECREF(code);
    Py_XDECREF(kwargs);
    Py_XDECREF(replace);
    Py_XDECREF(args);
    return replaced;
}

/* What pymon_find_nop() found; 0 before.  Who asks again finds the same. */
PYMON_SHARED uint8_t pymon_nop = 0;
#define PYMON_NO_NOP 255

/* The sample with other names and, if nop is an opcode, one NOP for each
   location that RESUME has not; what raises has none. */
static inline PyObject *
pymon_make_code(int nop, PyObject *filename, PyObject *name,
                PyObject *qualname, int firstlineno,
                const PyCodeLocation *locations, Py_ssize_t num_locations)
{
    PyObject *code = pymon_sample(0);
    PyObject *old = code ? PyObject_GetAttrString(code, "co_code") : NULL;
    Py_ssize_t before = old ? PyBytes_Size(old) - 4 : 0;
    Py_ssize_t length = Py_MAX(before, 2 * num_locations);
    PyObject *bytecode = old && nop != PYMON_NO_NOP
        ? PyBytes_FromStringAndSize(NULL, length + 4) : NULL;
    if (bytecode != NULL) {
        const char *units = PyBytes_AsString(old);
        char *end = PyBytes_AsString(bytecode);
        memcpy(end, units, (size_t)before);
        for (Py_ssize_t i = before; i < length; i += 2) {
            end[i] = (char)nop;
            end[i + 1] = 0;
        }
        memcpy(end + length, units + before, 4);
    }
    Py_XDECREF(old);
    return nop == PYMON_NO_NOP
        ? pymon_replace(code, "{sOsOsOsi}", "co_filename", filename, "co_name",
                        name, "co_qualname", qualname, "co_firstlineno",
                        firstlineno)
        : pymon_replace(code, "{sOsOsOsisNsNsis()}", "co_filename", filename,
                        "co_name", name, "co_qualname", qualname,
                        "co_firstlineno", firstlineno, "co_code", bytecode,
                        "co_linetable", bytecode == NULL ? NULL
                        : pymon_new_table(locations, num_locations,
                                          length / 2 + 2 - num_locations,
                                          firstlineno),
                        "co_flags", 0, "co_consts");
}

/* The opcode of NOP, or PYMON_NO_NOP if there is none or the interpreter reads
   location tables otherwise than this header writes them; -1 on error. */
static inline int
pymon_find_nop(void)
{
    /* All kinds of entries. */
    static const PyCodeLocation sample[] = {
        {7, 7, 3, 5}, {7, 7, 90, 100}, {9, 9, 1, 2}, {300, 301, 200, 4},
        {8, 8, -1, -1}, {-1, -1, -1, -1}, {8, 8, 79, 94}, {8, 8, 6, 9},
    };
    enum { NUMBER = sizeof(sample) / sizeof(sample[0]) };
    int nop = PYMON_LOAD(&pymon_nop);
    if (nop != 0) {
        return nop;
    }
    PyObject *module = PyImport_ImportModule("opcode");
    PyObject *map = module ? PyObject_GetAttrString(module, "opmap") : NULL;
    PyObject *opcode = map ? PyMapping_GetItemString(map, "NOP") : NULL;
    PyObject *name = opcode ? PyUnicode_FromString("") : NULL;
    nop = name ? (int)PyLong_AsLong(opcode) : PYMON_NO_NOP;
    PyObject *code = name == NULL ? NULL
        : pymon_make_code(nop, name, name, name, 1, sample, NUMBER);
    PyObject *positions = code == NULL ? NULL
        : PyObject_CallMethod(code, "co_positions", NULL);
    PyObject *list = positions ? PySequence_List(positions) : NULL;
    int good = list != NULL && PyList_Size(list) == NUMBER + 2;
    for (int i = 0; good && i < NUMBER; i++) {
        PyCodeLocation found;
        good = pymon_read_row(PyList_GetItem(list, i), 0, &found) == 0
            && found.lineno == sample[i].lineno
            /* python -X no_debug_ranges leaves the line alone. */
            && (memcmp(&found, &sample[i], sizeof(found)) == 0
                || (found.col_offset & found.end_col_offset) == -1);
    }
    Py_XDECREF(module);
    Py_XDECREF(map);
    Py_XDECREF(opcode);
    Py_XDECREF(name);
    Py_XDECREF(code);
    Py_XDECREF(positions);
    Py_XDECREF(list);
    /* What has another shape is no error. */
    if (!good && PyErr_Occurred()
        && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return -1;
    }
    PyErr_Clear();
    nop = good ? nop : PYMON_NO_NOP;
    PYMON_STORE(&pymon_nop, (uint8_t)nop);
    return nop;
}

static inline PyObject *
pymon_NewWithLocations(PyObject *filename, PyObject *name, PyObject *qualname,
                       int firstlineno, const PyCodeLocation *locations,
                       Py_ssize_t num_locations)
{
    PYMON_IF_NATIVE(
        PyCode_NewWithLocations(filename, name, qualname, firstlineno,
                                locations, num_locations))
    static const char *const whats[] = {"filename", "name", "qualname"};
    const Py_ssize_t maximum = INT_MAX / 2 - 3;
    qualname = qualname ? qualname : name;
    PyObject *const names[] = {filename, name, qualname};
    for (int i = 0; i < 3; i++) {
        if (names[i] == NULL || !PyUnicode_CheckExact(names[i])) {
            PyObject *type = names[i] ? PyType_GetName(Py_TYPE(names[i]))
                                      : PyUnicode_FromString("NULL");
            if (type != NULL) {
                PyErr_Format(PyExc_TypeError, "%s must be str, not %U",
                             whats[i], type);
                Py_DECREF(type);
            }
            return NULL;
        }
    }
    const char *problem =
        firstlineno < 0 ? "firstlineno must not be negative"
        : num_locations < 0 ? "num_locations must not be negative"
        : locations == NULL && num_locations > 0 && num_locations <= maximum
        ? "locations must not be NULL" : NULL;
    if (problem != NULL) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    if (num_locations > maximum) {
        PyErr_Format(PyExc_OverflowError,
                     "%zd locations are too many, %zd are possible",
                     num_locations, maximum);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < num_locations; i++) {
        problem = pymon_find_problem(&locations[i]);
        if (problem != NULL) {
            PyErr_Format(PyExc_ValueError, "location %zd: %s", i, problem);
            return NULL;
        }
    }
    int nop = pymon_find_nop();
    return nop < 0 ? NULL
        : pymon_make_code(nop, filename, name, qualname, firstlineno,
                          locations, num_locations);
}

/* ------ The API: tracebacks ------ */

/* An attribute that is a string, as exact str. */
static inline PyObject *
pymon_string(PyObject *codelike, const char *name)
{
    PyObject *value = PyObject_GetAttrString(codelike, name);
    PyObject *string = value ? PyUnicode_FromObject(value) : NULL;
    Py_XDECREF(value);
    return string;
}

/* The file that an offset in a code-like means, a new reference, and the
   location, of which what cannot be known is -1. */
static inline PyObject *
pymon_locate(PyObject *codelike, int32_t offset, PyCodeLocation *location)
{
    static const PyCodeLocation unknown = {-1, -1, -1, -1};
    PyObject *filename = NULL;
    PyObject *row = NULL;
    PyObject *iterator = NULL;
    PyObject *method = PyObject_GetAttrString(codelike, "co_location");
    int first = method != NULL;
    if (method != NULL) {
        row = PyObject_CallFunction(method, "i", (int)offset);
    }
    else {
        PyErr_Clear();
        PyObject *positions = PyObject_CallMethod(codelike, "co_positions",
                                                  NULL);
        iterator = positions ? PyObject_GetIter(positions) : NULL;
        Py_XDECREF(positions);
        row = iterator ? PyIter_Next(iterator) : NULL;
        for (int32_t i = offset / 2; row != NULL && i > 0; i--) {
            Py_DECREF(row);
            row = PyIter_Next(iterator);
        }
    }
    int is_known = row != NULL && offset >= 0 && offset % 2 == 0;
    if (!is_known || pymon_read_row(row, first, location) < 0) {
        *location = unknown;
    }
    if (is_known && first) {
        PyObject *name = PyTuple_GetItem(row, 0);
        filename = name ? PyUnicode_FromObject(name) : NULL;
    }
    PyErr_Clear();
    Py_XDECREF(method);
    Py_XDECREF(iterator);
    Py_XDECREF(row);
    return filename ? filename : pymon_string(codelike, "co_filename");
}

/* A frame that shows a code-like at one location: a code object by itself,
   another by code that has that location alone.  If *lineno is 0, that is
   set. */
static inline PyObject *
pymon_make_frame(PyObject *codelike, int32_t offset, int *lineno, int *lasti)
{
    PyCodeLocation location;
    PyObject *code = NULL;
    PyObject *frame = NULL;
    PyObject *filename = NULL;
#ifndef Py_LIMITED_API
    if (PyCode_Check(codelike)) {
        code = Py_NewRef(codelike);
        location.lineno = offset >= 0
            && offset / 2 < Py_SIZE((PyVarObject *)codelike)
            ? PyCode_Addr2Line((PyCodeObject *)codelike, offset) : -1;
    }
#endif
    if (code == NULL) {
        filename = pymon_locate(codelike, offset, &location);
    }
    if (*lineno == 0 && location.lineno > 0) {
        *lineno = location.lineno;
    }
    if (*lineno == 0) {
        PyObject *first = PyObject_GetAttrString(codelike, "co_firstlineno");
        *lineno = first ? (int)PyLong_AsLong(first) : 0;
        Py_XDECREF(first);
    }
    *lasti = location.lineno != *lineno ? -1 : code != NULL ? (int)offset : 0;
    if (code == NULL && filename != NULL && !PyErr_Occurred()) {
        const PyCodeLocation line = {*lineno, *lineno, -1, -1};
        /* A frame that is new is at one of the first units. */
        PyCodeLocation locations[4];
        for (int i = 0; i < 4; i++) {
            locations[i] = *lasti < 0 ? line : location;
        }
        PyObject *name = pymon_string(codelike, "co_name");
        int nop = name ? pymon_find_nop() : -1;
        if (nop >= 0) {
            code = pymon_replace(
                pymon_sample(1), "{sOsOsOsisN}", "co_filename", filename,
                "co_name", name, "co_qualname", name, "co_firstlineno",
                *lineno, "co_linetable", nop == PYMON_NO_NOP
                ? PyBytes_FromStringAndSize(NULL, 0)
                : pymon_new_table(locations, 4, 64, *lineno));
        }
        Py_XDECREF(name);
    }
    PyObject *globals = code ? PyDict_New() : NULL;
    if (globals != NULL) {
#ifdef Py_LIMITED_API
        /* A generator has a frame before it runs. */
        PyObject *type = pymon_type("FunctionType");
        PyObject *function = type ? PyObject_CallFunctionObjArgs(
            type, code, globals, NULL) : NULL;
        PyObject *generator = function ? PyObject_CallNoArgs(function) : NULL;
        frame = generator ? PyObject_GetAttrString(generator, "gi_frame")
                          : NULL;
        Py_XDECREF(type);
        Py_XDECREF(function);
        Py_XDECREF(generator);
#else
        frame = (PyObject *)PyFrame_New(PyThreadState_Get(),
                                        (PyCodeObject *)code, globals, NULL);
#endif
        Py_DECREF(globals);
    }
    Py_XDECREF(code);
    Py_XDECREF(filename);
    return frame;
}

static inline int
pymon_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
{
    PYMON_IF_NATIVE(_PyMonitoring_AddTraceback(codelike, offset, lineno))
    PyObject *exc = PyErr_GetRaisedException();
    if (exc == NULL) {
        PyErr_SetString(PyExc_SystemError, "PyMonitoring_AddTraceback() needs "
                        "an exception that is set");
        return -1;
    }
    PyObject *next = PyException_GetTraceback(exc);
    PyObject *frame = NULL, *traceback = NULL;
    pymon_pause pause;
    int lasti = -1;
    /* What the code-like does when asked is not the program's. */
    if (pymon_stop(&pause) == 0) {
        frame = pymon_make_frame(codelike, offset, &lineno, &lasti);
        pymon_resume(&pause);
    }
    if (frame != NULL) {
        traceback = PyObject_CallFunction(
            (PyObject *)&PyTraceBack_Type, "OOii", next ? next : Py_None,
            frame, lasti, lineno);
    }
    if (traceback != NULL) {
        (void)PyException_SetTraceback(exc, traceback);
    }
    /* Drops what went wrong. */
    PyErr_SetRaisedException(exc);
    int result = traceback != NULL ? 0 : -1;
    Py_XDECREF(traceback);
    Py_XDECREF(frame);
    Py_XDECREF(next);
    return result;
}

/* The native functions of these names, where there are any, are called above
   here. */
#define PyMonitoring_EnterScope pymon_EnterScope
#define PyMonitoring_ExitScope pymon_ExitScope
#define PyMonitoring_FirePyStartEvent pymon_FirePyStartEvent
#define PyMonitoring_FirePyResumeEvent pymon_FirePyResumeEvent
#define PyMonitoring_FirePyReturnEvent pymon_FirePyReturnEvent
#define PyMonitoring_FirePyYieldEvent pymon_FirePyYieldEvent
#define PyMonitoring_FireCallEvent pymon_FireCallEvent
#define PyMonitoring_FireLineEvent pymon_FireLineEvent
#define PyMonitoring_FireJumpEvent pymon_FireJumpEvent
#define PyMonitoring_FireBranchEvent pymon_FireBranchEvent
#define PyMonitoring_FireBranchLeftEvent pymon_FireBranchLeftEvent
#define PyMonitoring_FireBranchRightEvent pymon_FireBranchRightEvent
#define PyMonitoring_FireCallReturnEvent pymon_FireCallReturnEvent
#define PyMonitoring_FireCallRaiseEvent pymon_FireCallRaiseEvent
#define PyMonitoring_FireCReturnEvent pymon_FireCReturnEvent
#define PyMonitoring_FireCRaiseEvent pymon_FireCRaiseEvent
#define PyMonitoring_Vectorcall pymon_Vectorcall
#define PyMonitoring_FirePyThrowEvent pymon_FirePyThrowEvent
#define PyMonitoring_FireRaiseEvent pymon_FireRaiseEvent
#define PyMonitoring_FireReraiseEvent pymon_FireReraiseEvent
#define PyMonitoring_FireExceptionHandledEvent pymon_FireExceptionHandledEvent
#define PyMonitoring_FirePyUnwindEvent pymon_FirePyUnwindEvent
#define PyMonitoring_FireStopIterationEvent pymon_FireStopIterationEvent
#define PyMonitoring_SetFrameNamespaces pymon_SetFrameNamespaces
#define PyMonitoring_AddTraceback pymon_AddTraceback
#define PyCode_NewWithLocations pymon_NewWithLocations

#endif /* no series */

#endif /* PYMONITORING_COMPAT_H */
