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

   (a) of a code-like that can be weakly referenced.
   (b) The interpreter loses an int for each offset above 256 (3.15: 1024).
   (c) It can crash when one that is no Python function removes itself.
   (d) Not on a free-threaded build.  Audit hooks hear of two registrations.
   (e) From 3.14 on they get BRANCH_LEFT or BRANCH_RIGHT, and BRANCH stands for
       the latter.  A tool that registers for BRANCH can crash the interpreter.
   (f) Tried on 3.13.  3.12 has no such build.
   (g) They get nothing: the series alone has frames of foreign code.
   (h) In callbacks for what is not of this extension they are sent.
   (i) of a tool that listens to some event of all code, too.
   (j) The entry of a traceback has a frame of its own.

   3.12 has no such C-API.  There the header reads the interpreter's tables
   through its internal headers.  At first use it compares what it reads with
   what sys.monitoring says, of which audit hooks hear; if that differs it
   sends no events, and gives a RuntimeWarning.

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

/* Internal headers are clean in C and in C++ only without HAVE_STD_ATOMIC and
   _PyGC_FINALIZED. */
#pragma push_macro("HAVE_STD_ATOMIC")
#pragma push_macro("Py_BUILD_CORE")
#undef HAVE_STD_ATOMIC
#undef _PyGC_FINALIZED
#undef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#include <internal/pycore_interp.h>
#pragma pop_macro("Py_BUILD_CORE")
#pragma pop_macro("HAVE_STD_ATOMIC")

#endif

#if PYMON_TABLES || defined(Py_LIMITED_API)
typedef struct _PyMonitoringState {
    uint8_t active, opaque;
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
#  define PYMON_LIMITED 1
#else
#  define PYMON_LIMITED 0
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
#  define PYMON_STORE(BYTE, VALUE) _Py_atomic_store_uint8_relaxed(BYTE, VALUE)
#  define PYMON_AND(BYTE, MASK) ((void)_Py_atomic_and_uint8(BYTE, MASK))
#  define PYMON_LOAD_POINTER(POINTER) _Py_atomic_load_ptr_acquire(POINTER)
#  define PYMON_LOAD_VERSION(VERSION) _Py_atomic_load_uint64_acquire(VERSION)
#  define PYMON_STORE_VERSION(VERSION, VALUE) \
    _Py_atomic_store_uint64_release(VERSION, VALUE)
#  define PYMON_BEGIN_LOCKED(OBJECT) Py_BEGIN_CRITICAL_SECTION(OBJECT);
#  define PYMON_END_LOCKED() Py_END_CRITICAL_SECTION();
#else
#  define PYMON_GIL 1
#  define PYMON_LOAD(BYTE) (*(BYTE))
#  define PYMON_STORE(BYTE, VALUE) ((void)(*(BYTE) = (VALUE)))
#  define PYMON_AND(BYTE, MASK) ((void)(*(BYTE) &= (MASK)))
#  define PYMON_LOAD_POINTER(POINTER) (*(POINTER))
#  define PYMON_LOAD_VERSION(VERSION) (*(VERSION))
#  define PYMON_STORE_VERSION(VERSION, VALUE) ((void)(*(VERSION) = (VALUE)))
#  define PYMON_BEGIN_LOCKED(OBJECT) {
#  define PYMON_END_LOCKED() }
#endif

/* A variable that the source files of an extension share, where the compiler
   can say so: one may disable what another fires. */
#ifdef _WIN32
#  define PYMON_SHARED __declspec(selectany)
#elif defined(__GNUC__)
#  define PYMON_SHARED __attribute__((weak, visibility("hidden")))
#else
#  define PYMON_SHARED static
#endif

/* A range of lines and columns in a file: lines from 1, columns from 0 in
   bytes of UTF-8, -1 where unknown. */
typedef struct {
    int lineno, end_lineno, col_offset, end_col_offset;
} PyCodeLocation;

#define PyCode_LOCATION_OFFSET(i) _Py_STATIC_CAST(int32_t, 2 * (i))

static const PyCodeLocation pymon_nowhere = {-1, -1, -1, -1};

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
    PyObject *stop;                 /* owned: arg1, if it was made */
} pymon_event;

/* The event with which a tool switches this one on and disables it: that of
   C_RETURN and C_RAISE is CALL.  INSTRUCTION, which is never fired, stands for
   what is not sent; -1 for what is no event type. */
static inline int
pymon_base_event(int event)
{
#define PYMON_SAME(ARGS, ID, NAME) case PY_MONITORING_EVENT_ ## ID:
    switch (event) {
        PYMON_EVENTS(PYMON_SAME)
        case PY_MONITORING_EVENT_INSTRUCTION:
            return event;
        case PY_MONITORING_EVENT_C_RETURN:
        case PY_MONITORING_EVENT_C_RAISE:
            return PYMON_GIL ? PY_MONITORING_EVENT_CALL
                             : PY_MONITORING_EVENT_INSTRUCTION;
        default:
            return -1;
    }
}

/* A new reference to dict[key], or NULL; with an exception set on error. */
static inline PyObject *
pymon_get(PyObject *dict, PyObject *key)
{
#if PYMON_GIL
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#else
    /* A critical section ends when all threads are to stop. */
    PyObject *value;
    (void)PyDict_GetItemRef(dict, key, &value);
    return value;
#endif
}

/* An attribute of a module: a new reference. */
static inline PyObject *
pymon_import(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *attribute = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return attribute;
}

/* An attribute of sys.monitoring: a new reference. */
static inline PyObject *
pymon_attribute(const char *name)
{
    /* If it is not there, importing says why; at the end of an interpreter
       only the first one works. */
    PyObject *module = Py_XNewRef(PySys_GetObject("monitoring"));
    module = module ? module : pymon_import("sys", "monitoring");
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

/* Call an object.  Steals the reference to it, which may be NULL on error. */
static inline PyObject *
pymon_call(PyObject *callable, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    PyObject *args = callable ? Py_VaBuildValue(format, list) : NULL;
    va_end(list);
    PyObject *result = args ? PyObject_CallObject(callable, args) : NULL;
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
   __context__ can make a ring: what has no end for so long is one. */
static inline PyObject *
pymon_find_context(PyObject *start, PyObject *exc)
{
    for (int i = 0; i < 10000 && start != NULL; i++) {
        PyObject *context = pymon_context(start);
        if (context == exc) {
            return start;
        }
        start = context;
    }
    return NULL;
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
   extension knows of it. */
#ifdef Py_LIMITED_API

PYMON_SHARED __thread int pymon_pauses = 0;
#  define pymon_is_paused() (pymon_pauses != 0)
#  define pymon_pause() (pymon_pauses++)
#  define pymon_resume(BEFORE) ((void)(BEFORE), (void)pymon_pauses--)

#else

static inline int
pymon_is_paused(void)
{
    return PyThreadState_Get()->tracing != 0;
}

static inline int
pymon_pause(void)
{
    PyThreadState *tstate = PyThreadState_Get();
    int before = tstate->what_event;
    tstate->what_event = -1;
    tstate->tracing++;
    return before;
}

static inline void
pymon_resume(int before)
{
    PyThreadState *tstate = PyThreadState_Get();
    tstate->tracing--;
    tstate->what_event = before;
}

#endif

/* ------ What an interpreter has: 3.12 ------ */

#if PYMON_TABLES

/* Are the tables where they should be?  A memory of what was found and nothing
   else: who compares again finds the same, be it another thread or
   interpreter. */
enum { PYMON_UNKNOWN, PYMON_GOOD, PYMON_OFF };
PYMON_SHARED int pymon_status = PYMON_UNKNOWN;

/* Is the interpreter's structure as large as it should be?  Its first thread
   is at its end; asked first, so that nothing behind it is read. */
static inline int
pymon_check_size(PyInterpreterState *interp)
{
    PyThreadState *first = PyInterpreterState_ThreadHead(interp);
    while (PyThreadState_Next(first) != NULL) {
        first = PyThreadState_Next(first);
    }
    uintptr_t distance = (uintptr_t)first - (uintptr_t)interp
        - offsetof(PyInterpreterState, _initial_thread);
    /* If it ended, others are allocated, somewhere else. */
    return distance == 0 || distance + 0x10000 >= 0x20000;
}

/* Is the table of callbacks where it should be?  -1 on error. */
static inline int
pymon_check_callbacks(PyInterpreterState *interp)
{
    const int tool = PYMON_TOOLS - 1;
    const int event = PY_MONITORING_EVENT_C_RAISE;
    PyObject **slot = &interp->monitoring_callables[tool][event];
    PyObject *probe = PyList_New(0);
    PyObject *old = probe == NULL ? NULL : pymon_call(
        pymon_attribute("register_callback"), "(iiO)", tool, 1 << event,
        probe);
    int good = old != NULL && *slot == probe;
    /* Audit hooks run before it is registered, and nothing until it is gone
       again, which needs no memory. */
    if (good) {
        *slot = old == Py_None ? NULL : Py_NewRef(old);
        Py_DECREF(probe);
    }
    else if (old != NULL) {
        Py_XDECREF(pymon_call(pymon_attribute("register_callback"), "(iiO)",
                              tool, 1 << event, old));
    }
    Py_XDECREF(old);
    Py_XDECREF(probe);
    return PyErr_Occurred() ? -1 : good;
}

/* Do the tables hold what sys.monitoring says of all code?  -1 on error. */
static inline int
pymon_check_events(PyInterpreterState *interp)
{
    for (int tool = 0; tool < PYMON_TOOLS; tool++) {
        PyObject *set = pymon_call(pymon_attribute("get_events"), "(i)", tool);
        if (set == NULL) {
            /* Later releases refuse it for a tool that is not in use. */
            if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
                return -1;
            }
            PyErr_Clear();
            continue;
        }
        unsigned long events = PyLong_AsUnsignedLong(set);
        Py_DECREF(set);
        for (int e = 0; e < _PY_MONITORING_UNGROUPED_EVENTS; e++) {
            if ((interp->monitors.tools[e] >> tool & 1)
                != (events >> e & 1)) {
                return 0;
            }
        }
    }
    return 1;
}

/* What is known of the tables, compared at first use; -1 on error. */
static inline int
pymon_check(void)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    /* An audit hook may run a producer: in it nothing is asked, as in a
       callback, where events do nothing.  At the end of the interpreter there
       is nobody to ask. */
    if (pymon_status != PYMON_UNKNOWN || pymon_is_paused()
        || PySys_GetObject("monitoring") == Py_None)
    {
        return pymon_status;
    }
    PyObject *pending = PyErr_GetRaisedException();
    int before = pymon_pause();
    int good = pymon_check_size(interp)
        && interp->last_restart_version <= interp->monitoring_version;
    good = good ? pymon_check_events(interp) : 0;
    good = good > 0 ? pymon_check_callbacks(interp) : good;
    pymon_resume(before);
    if (good >= 0) {
        pymon_status = good ? PYMON_GOOD : PYMON_OFF;
    }
    if (good == 0 && PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
            "the monitoring tables of this Python %d.%d.%d are not where an "
            "extension built for " PY_VERSION " looks for them: it signals no "
            "events", (int)(Py_Version >> 24 & 0xFF),
            (int)(Py_Version >> 16 & 0xFF), (int)(Py_Version >> 8 & 0xFF)) < 0)
    {
        good = -1;
    }
    pymon_restore(pending);
    return good < 0 ? -1 : pymon_status;
}

/* What PyMonitoring_EnterScope() is from 3.13 on, but 1 where it has to be
   asked again. */
static inline int
pymon_enter(PyMonitoringState *states, uint64_t *version,
            const uint8_t *event_types, Py_ssize_t length)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    int status = pymon_check();
    *version = interp->monitoring_version << 1;
    for (Py_ssize_t i = 0; status == PYMON_GOOD && i < length; i++) {
        states[i].active = interp->monitors.tools[event_types[i]];
    }
    return status < 0 ? -1 : status == PYMON_UNKNOWN;
}

/* What changes with the events of any tool, never 0; and when disabled
   locations are to be forgotten. */
#define pymon_version() \
    (PyThreadState_Get()->interp->monitoring_version << 1 | 1)
#define pymon_restart_version() \
    (PyThreadState_Get()->interp->last_restart_version)

/* The callback of a tool for an event: a new reference, or NULL. */
#define pymon_callback(TOOL, EVENT) \
    Py_XNewRef(PyThreadState_Get()->interp->monitoring_callables[TOOL][EVENT])

#define PYMON_IF_NATIVE(CALL)
#define PyMonitoringCompat_SendsEvents() (pymon_status != PYMON_OFF)

#else

/* ------ What an interpreter has: 3.13 and later ------ */

/* What may be missing where the binary runs: what an interpreter with the
   series has beside a stock one, which is then to CALL that, and with the
   limited C-API everything. */
#if defined(__GNUC__) && !defined(_WIN32) && !defined(__CYGWIN__)
#  define PYMON_WEAK __attribute__((weak))
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

#define PyMonitoringCompat_SendsEvents() \
    (&_PyMonitoring_FirePyStartEvent != NULL)

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
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *events = pymon_attribute("events");
    /* The first one, found last, says that all are known. */
    for (size_t i = sizeof(pymon_ids); events != NULL && i > 0; i--) {
        int is_one = Py_Version < 0x030E0000
            && strncmp(names[i - 1], "BRANCH", 6) == 0;
        PyObject *set = PyObject_GetAttrString(
            events, is_one ? "BRANCH" : names[i - 1]);
        unsigned long bits = set == NULL ? 0 : PyLong_AsUnsignedLong(set);
        Py_XDECREF(set);
        if (PyErr_Occurred()) {
            Py_CLEAR(events);
        }
        uint8_t id = 0;
        for (; bits != 0; bits >>= 1) {
            id++;
        }
        pymon_ids[i - 1] = id;
    }
    Py_XDECREF(events);
    pymon_restore(pending);
    return events == NULL ? -1 : 0;
}

#define pymon_id(EVENT) (pymon_ids[(EVENT) - PYMON_FIRST_ID - 1] - 1)

/* The interpreter's function, for these ids; on 3.12 nobody listens. */
static inline int
pymon_enter(PyMonitoringState *state_array, uint64_t *version,
            const uint8_t *event_types, Py_ssize_t length)
{
    if (!PyMonitoringCompat_SendsEvents()) {
        return 0;
    }
    if (pymon_ids[0] == 0 && pymon_find_ids() < 0) {
        return -1;
    }
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
    (void)pymon_enter(NULL, &version, NULL, 0);
    return version | 1;
}

/* Nothing else is known of sys.monitoring.restart_events(). */
#define pymon_restart_version pymon_version

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
}

#if PYMON_GIL

/* The callback of a tool for an event: a new reference, or NULL, with an
   exception set on error.  Only what replaces it is given it, so it is taken
   away and put back.  What audit hooks register meanwhile stays. */
static inline PyObject *
pymon_callback(int tool, int event)
{
    PyObject *replace = pymon_attribute("register_callback");
    PyObject *args = replace == NULL ? NULL : Py_BuildValue(
        "(iiO)", tool, 1 << pymon_id(event), Py_None);
    PyObject *callback = args ? PyObject_CallObject(replace, args) : NULL;
    PyObject *back = Py_XNewRef(callback);
    /* No memory is needed to put it back. */
    for (int i = 0; i < 2 && back != NULL && back != Py_None; i++) {
        (void)PyTuple_SetItem(args, 2, back);
        back = PyObject_CallObject(replace, args);
    }
    Py_XDECREF(back);
    if (callback == Py_None || PyErr_Occurred()) {
        Py_CLEAR(callback);
    }
    Py_XDECREF(replace);
    Py_XDECREF(args);
    return callback;
}

#endif

#endif

/* The tools that listen to the event now. */
static inline int
pymon_tools(int event)
{
    PyMonitoringState state = {0, 0};
    uint8_t type = (uint8_t)pymon_base_event(event);
    uint64_t version = 0;
    (void)pymon_enter(&state, &version, &type, 1);
    return type == PY_MONITORING_EVENT_INSTRUCTION ? 0
        : state.active & PYMON_TOOL_MASK;
}

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
    int disabling = args[2] == NULL ? -1 : 0;
    int before = pymon_pause();
    for (int tool = PYMON_TOOLS - 1; disabling >= 0 && tool >= 0; tool--) {
        PyObject *callback = tools >> tool & 1
            ? pymon_callback(tool, event->id) : NULL;
        PyObject *res = callback == NULL ? NULL : PyObject_Vectorcall(
            callback, args + 1,
            (size_t)event->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        int disables = res != NULL && res != Py_None
            && res == pymon_constant("DISABLE");
        if (disables && !PY_MONITORING_IS_INSTRUMENTED_EVENT(event->id)) {
            /* Left in place, the callback would raise again and again. */
            Py_XDECREF(pymon_call(pymon_attribute("register_callback"),
                                  "(iiO)", tool, 1 << pymon_id(event->id),
                                  Py_None));
            PyErr_Format(PyExc_ValueError,
                         "Cannot disable %s events. Callback removed.",
                         event->name);
        }
        Py_XDECREF(callback);
        Py_XDECREF(res);
        disabling = PyErr_Occurred() ? -1 : disabling | disables << tool;
    }
    pymon_resume(before);
    Py_XDECREF(args[2]);
    return disabling;
}

#endif

/* The same, by the interpreter's function where that has the arguments. */
static inline int
pymon_call_tools(const pymon_event *event, uint8_t tools)
{
#if PYMON_TABLES
    return pymon_call_callbacks(event, tools);
#else
#if PYMON_GIL
    if (event->id == PY_MONITORING_EVENT_C_RETURN
        || event->id == PY_MONITORING_EVENT_C_RAISE)
    {
        return pymon_call_callbacks(event, tools);
    }
#endif
    PyMonitoringState state = {tools, 0};
    if (event->nargs == 3 && event->arg2 != NULL) {
        PyErr_SetRaisedException(Py_NewRef(event->arg1));
    }
    int before = PYMON_LIMITED ? pymon_pause() : 0;
    int err = pymon_native(&state, event);
    if (PYMON_LIMITED) {
        pymon_resume(before);
    }
    return err < 0 ? -1 : tools & ~state.active;
#endif
}

/* ------ Local events of code objects ------ */

#ifdef Py_LIMITED_API
#  define pymon_has_local(CODELIKE) 0
#else
/* Has any tool ever had local events on the code-like?  It is asked of every
   code object, and nothing else is. */
static inline int
pymon_has_local(PyObject *codelike)
{
    if (codelike == NULL || !PyCode_Check(codelike)) {
        return 0;
    }
    PYMON_IF_NATIVE(0)
    return PYMON_LOAD_POINTER(
        &((PyCodeObject *)codelike)->_co_monitoring) != NULL;
}
#endif

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
    int status = pymon_check();
    if (status != PYMON_GOOD) {
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
        PyObject *set = pymon_call(pymon_attribute("get_local_events"),
                                   "(iO)", tool, event->codelike);
        /* The tool is not in use, or this is no code object. */
        if (set == NULL && !PyErr_ExceptionMatches(PyExc_ValueError)
            && !PyErr_ExceptionMatches(PyExc_TypeError))
        {
            return -1;
        }
        PyErr_Clear();
        unsigned long events = set ? PyLong_AsUnsignedLong(set) : 0;
        local |= (int)(events >> pymon_id(base) & 1) << tool;
        Py_XDECREF(set);
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
   another layout, or another meaning, needs another key.  A new reference to
   the dict, or NULL. */
static inline PyObject *
pymon_all_disabled(PyObject *interpreter_dict)
{
    PyObject *version = PyLong_FromUnsignedLongLong(pymon_restart_version());
    PyObject *key = version ? PyUnicode_FromString("pymonitoring_compat 2")
                            : NULL;
    PyObject *pair = key ? pymon_get(interpreter_dict, key) : NULL;
    if (!PyErr_Occurred()
        && (pair == NULL || PyObject_RichCompareBool(
            PyTuple_GetItem(pair, 0), version, Py_NE) > 0))
    {
        Py_XDECREF(pair);
        pair = Py_BuildValue("(O{})", version);
        if (pair != NULL && PyDict_SetItem(interpreter_dict, key, pair) < 0) {
            Py_CLEAR(pair);
        }
    }
    PyObject *disabled = pair ? Py_NewRef(PyTuple_GetItem(pair, 1)) : NULL;
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
    /* An address may be used again. */
    if (entry != NULL && PyTuple_GetItem(entry, 0) == ref) {
        (void)PyDict_DelItem(disabled, self);
    }
    Py_XDECREF(entry);
    Py_XDECREF(disabled);
    /* It may stay: its reference shows that it is dead. */
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static PyMethodDef pymon_forget_def = {"forget", pymon_forget, METH_O, NULL};

/* Disable the location of the event for more tools, none or more.  Return the
   tools for which it is disabled; -1 on error: TypeError if the code-like
   cannot be weakly referenced.  Called without an exception set. */
static inline int
pymon_disable(const pymon_event *event, int more)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (dict == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *id = PyLong_FromVoidPtr(event->codelike);
    PyObject *location = PyLong_FromUnsignedLongLong(
        (unsigned long long)pymon_id(pymon_base_event(event->id)) << 32
        | (uint32_t)event->number);
    PyObject *callback = NULL;
    PyObject *ref = NULL;
    int tools = 0;
    PYMON_BEGIN_LOCKED(dict)
    PyObject *disabled = id && location ? pymon_all_disabled(dict) : NULL;
    PyObject *entry = disabled ? pymon_get(disabled, id) : NULL;
    if (entry != NULL) {
        PyObject *referent = PyObject_CallNoArgs(PyTuple_GetItem(entry, 0));
        /* An address may be used again. */
        if (referent != event->codelike) {
            Py_CLEAR(entry);
        }
        Py_XDECREF(referent);
    }
    if (entry == NULL && more != 0 && !PyErr_Occurred()) {
        callback = PyCFunction_New(&pymon_forget_def, id);
        ref = callback ? PyWeakref_NewRef(event->codelike, callback) : NULL;
        entry = ref ? Py_BuildValue("(O{})", ref) : NULL;
        if (entry != NULL) {
            (void)PyDict_SetItem(disabled, id, entry);
        }
    }
    if (entry != NULL && !PyErr_Occurred()) {
        PyObject *locations = PyTuple_GetItem(entry, 1);
        PyObject *value = pymon_get(locations, location);
        tools = value ? (int)PyLong_AsLong(value) : 0;
        if ((more & ~tools) != 0) {
            tools |= more;
            Py_XDECREF(value);
            value = PyLong_FromLong(tools);
            if (value != NULL) {
                (void)PyDict_SetItem(locations, location, value);
            }
        }
        Py_XDECREF(value);
    }
    Py_XDECREF(disabled);
    Py_XDECREF(entry);
    PYMON_END_LOCKED()
    Py_XDECREF(id);
    Py_XDECREF(location);
    Py_XDECREF(callback);
    Py_XDECREF(ref);
    return PyErr_Occurred() ? -1 : tools;
}

/* ------ Firing ------ */

/* Call the tools for an event whose arguments are good.  Called, and returns
   when there is no error, without an exception set. */
static inline int
pymon_dispatch(PyMonitoringState *state, const pymon_event *event, int tools)
{
    int disabled = PYMON_LOAD(&pymon_any_disabled)
        && PY_MONITORING_IS_INSTRUMENTED_EVENT(pymon_base_event(event->id))
        ? pymon_disable(event, 0) : 0;
    if (disabled < 0 || (tools &= ~disabled) == 0) {
        return disabled < 0 ? -1 : 0;
    }
    int disabling = pymon_call_tools(event, (uint8_t)tools);
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

/* Check the arguments of an event, and make what callbacks get of them. */
static inline int
pymon_prepare(pymon_event *event, PyObject *pending)
{
    int is_exception = event->nargs == 3 && event->arg1 == NULL;
    if (event->offset < 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset of %s event must be non-negative, not %d",
                     event->name, (int)event->offset);
    }
    else if (pending == NULL && (is_exception
                                 || event->id == PY_MONITORING_EVENT_C_RAISE))
    {
        PyErr_Format(PyExc_ValueError,
                     "Firing event %d with no exception set", event->id);
    }
    else if (is_exception) {
        event->arg1 = event->arg2 = pending;
    }
    else if (event->nargs == 4 && event->arg1 == NULL) {
        event->arg1 = event->arg2 = pymon_constant("MISSING");
    }
    else if (event->id == PY_MONITORING_EVENT_STOP_ITERATION
             && !PyObject_TypeCheck(event->arg1,
                                    (PyTypeObject *)PyExc_StopIteration))
    {
        event->arg1 = event->stop = PyObject_CallFunctionObjArgs(
            PyExc_StopIteration, event->arg1, NULL);
    }
    return PyErr_Occurred() ? -1 : 0;
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
    int others = ~tools & (PYMON_LIMITED ? active
        : pymon_has_local(event->codelike) ? PYMON_TOOL_MASK : 0);
    if ((tools | others) == 0) {
        return 0;
    }
    PyObject *pending = PyErr_GetRaisedException();
    int local = pymon_local_tools(event, others);
    int err = local < 0 ? -1 : 0;
    tools |= local;
    if (tools > 0) {
        err = pymon_prepare(event, pending);
        if (err == 0) {
            err = pymon_dispatch(state, event, tools);
        }
        Py_XDECREF(event->stop);
    }
    pymon_restore(pending);
    return err;
}

/* ------ The API: scopes ------ */

static inline int
pymon_write_states(PyMonitoringState *state_array, uint64_t *version,
                   const uint8_t *event_types, Py_ssize_t length)
{
    /* The interpreter's function has no place for C_RETURN and C_RAISE, and
       does not write as threads may read. */
    static const uint8_t types[] = {
        PYMON_EVENTS(PYMON_ID) PY_MONITORING_EVENT_INSTRUCTION
    };
    PyMonitoringState found[sizeof(types)];
    uint8_t tools[64] = {0};
    Py_ssize_t bad = 0;
    uint64_t current = 0;
    int listeners = 0;
    int err;
    memset(found, 0, sizeof(found));
    /* What is always there serves as a lock. */
    PYMON_BEGIN_LOCKED(Py_None)
    err = pymon_enter(found, &current, types, sizeof(types));
    for (size_t i = 0; i < sizeof(types); i++) {
        listeners |= found[i].active;
    }
    listeners &= PYMON_TOOL_MASK;
    for (size_t i = 0; listeners != 0 && i < sizeof(types) - 1; i++) {
        /* Who listens to anything may have local events on a code object. */
        tools[types[i]] = (uint8_t)(
            PYMON_LIMITED && PY_MONITORING_IS_INSTRUMENTED_EVENT(types[i])
            ? listeners : found[i].active & PYMON_TOOL_MASK);
    }
    while (listeners != 0 && bad < length
           && pymon_base_event(event_types[bad]) >= 0) {
        bad++;
    }
    bad = listeners != 0 && bad < length ? bad : -1;
    for (Py_ssize_t i = 0; i < length; i++) {
        PYMON_STORE(&state_array[i].active, listeners == 0 || bad >= 0 ? 0
                    : tools[pymon_base_event(event_types[i])]);
        PYMON_STORE(&state_array[i].opaque, 0);
    }
    PYMON_STORE_VERSION(version, err == 0 && bad < 0 ? current | 1 : 0);
    PYMON_END_LOCKED()
    if (bad >= 0) {
        PyObject *pending = PyErr_GetRaisedException();
        PyErr_Format(PyExc_ValueError,
                     "event_types[%zd] is %d, which is no event type", bad,
                     event_types[bad]);
        pymon_restore(pending);
    }
    return err < 0 || bad >= 0 ? -1 : 0;
}

static inline int
pymon_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                 const uint8_t *event_types, Py_ssize_t length)
{
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
#define PYMON_FIELDS_PLAIN offset, 2, NULL, NULL, NULL
#define PYMON_FIELDS_RAISED offset, 3, NULL, NULL, NULL
#define PYMON_FIELDS_VALUE offset, 3, value, NULL, NULL
#define PYMON_FIELDS_CALL offset, 4, callable, arg0, NULL
#define PYMON_FIELDS_LINE lineno, 2, NULL, NULL, NULL

#define PYMON_DEFINE(ARGS, ID, NAME) \
    static inline int pymon_Fire ## NAME ## Event( \
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

/* Is it a Python function, or a bound method of one?  -1 on error. */
static inline int
pymon_is_function(PyObject *callable)
{
#ifdef Py_LIMITED_API
    PyObject *function_type = pymon_import("types", "FunctionType");
    PyObject *method_type = pymon_import("types", "MethodType");
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
    (void)state, (void)codelike, (void)globals, (void)locals;
    PYMON_IF_NATIVE(!PYMON_LOAD(&state->active) ? 0
        : _PyMonitoring_SetFrameNamespaces(codelike, globals, locals))
    return 0;
}

/* ------ The API: code objects made of locations, tracebacks ------ */

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

/* Write the entry of a location table for one code unit: a byte of its kind,
   and numbers. */
#define PYMON_ENTRY_SIZE (1 + 4 * 6)

static inline uint8_t *
pymon_write_entry(uint8_t *end, const PyCodeLocation *at, int *last_line)
{
    uint8_t *start = end++;
    int delta = at->lineno - *last_line;
    int lines = at->end_lineno < 0 ? 0 : at->end_lineno - at->lineno;
    unsigned int column = (unsigned int)at->col_offset;
    unsigned int end_column = (unsigned int)at->end_col_offset;
    int kind = 15;
    if (at->lineno > 0) {
        *last_line = at->lineno;
        kind = lines == 0 && delta >= 0 && delta <= 2 && column < 128
               && end_column < 128 ? 10 + delta : 14;
    }
    if (kind < 14) {
        *end++ = (uint8_t)column;
        *end++ = (uint8_t)end_column;
    }
    else if (kind == 14) {
        end = pymon_write_number(
            end, delta < 0 ? (0u - (unsigned int)delta) << 1 | 1
                           : (unsigned int)delta << 1);
        end = pymon_write_number(end, (unsigned int)lines);
        end = pymon_write_number(end, column + 1);
        end = pymon_write_number(end, end_column + 1);
    }
    *start = (uint8_t)(128 | kind << 3);
    return end;
}

/* The table for code units at these locations, and some more at none. */
static inline PyObject *
pymon_new_table(const PyCodeLocation *locations, Py_ssize_t num_locations,
                Py_ssize_t more, int line)
{
    size_t units = (size_t)(num_locations + more);
    uint8_t *table = units > (size_t)-1 / PYMON_ENTRY_SIZE ? NULL
        : (uint8_t *)PyMem_Malloc(units * PYMON_ENTRY_SIZE);
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    uint8_t *end = table;
    for (size_t i = 0; i < units; i++) {
        end = pymon_write_entry(
            end, i < (size_t)num_locations ? &locations[i] : &pymon_nowhere,
            &line);
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
        long number = item == Py_None ? -1 : PyLong_AsLong(item);
        *numbers[i] = number > INT_MAX || number < -1 ? -2 : (int)number;
    }
    return PyErr_Occurred() || pymon_find_problem(location) != NULL ? -1 : 0;
}

/* Code that raises AssertionError if it runs: RESUME, and two instructions
   that raise it; or a generator's. */
static inline PyObject *
pymon_sample(int is_generator)
{
#ifdef Py_LIMITED_API
    /* Py_CompileString() would leave out an assert under python -O. */
    PyObject *module = pymon_call(
        pymon_import("builtins", "compile"), "(sssiii)",
        is_generator ? "def f(): yield" : "def f(): assert 0", "", "exec", 0,
        1, 0);
    PyObject *consts = module ? PyObject_GetAttrString(module, "co_consts")
                              : NULL;
    PyObject *code = consts ? Py_XNewRef(PyTuple_GetItem(consts, 0)) : NULL;
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

/* The sample with other names and, if nop is not 0, one NOP for each location
   that RESUME has not; what raises has none. */
static inline PyObject *
pymon_make_code(int nop, PyObject *filename, PyObject *name,
                PyObject *qualname, int firstlineno,
                const PyCodeLocation *locations, Py_ssize_t num_locations)
{
    PyObject *code = pymon_replace(
        pymon_sample(0), "{sOsOsOsi}", "co_filename", filename, "co_name",
        name, "co_qualname", qualname, "co_firstlineno", firstlineno);
    if (code == NULL || nop == 0) {
        return !PYMON_LIMITED ? code : pymon_replace(
            code, "{sNsis()}", "co_linetable",
            PyBytes_FromStringAndSize(NULL, 0), "co_flags", 0, "co_consts");
    }
    PyObject *old = PyObject_GetAttrString(code, "co_code");
    Py_ssize_t before = old ? PyBytes_Size(old) - 4 : 0;
    Py_ssize_t length = Py_MAX(before, 2 * num_locations);
    PyObject *bytecode = old ? PyBytes_FromStringAndSize(NULL, length + 4)
                             : NULL;
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
    return pymon_replace(
        code, "{sNsNsis()}", "co_code", bytecode, "co_linetable",
        bytecode == NULL ? NULL
        : pymon_new_table(locations, num_locations,
                          length / 2 + 2 - num_locations, firstlineno),
        "co_flags", 0, "co_consts");
}

/* What pymon_find_nop() found, plus one.  Who asks again finds the same. */
PYMON_SHARED uint8_t pymon_nop = 0;

/* The opcode of NOP; 0 if there is none or the interpreter reads location
   tables otherwise than this header writes them; -1 on error. */
static inline int
pymon_find_nop(void)
{
    /* All kinds of entries. */
    static const PyCodeLocation sample[] = {
        {7, 7, 3, 5}, {7, 7, 0, 127}, {9, 9, 1, 2}, {300, 301, 200, 4},
        {8, 8, -1, -1}, {-1, -1, -1, -1}, {8, 8, 6, 9},
    };
    enum { NUMBER = sizeof(sample) / sizeof(sample[0]) };
    int nop = PYMON_LOAD(&pymon_nop) - 1;
    if (nop >= 0) {
        return nop;
    }
    PyObject *map = pymon_import("opcode", "opmap");
    PyObject *opcode = map ? PyMapping_GetItemString(map, "NOP") : NULL;
    nop = opcode ? (int)PyLong_AsLong(opcode) : 0;
    PyObject *name = opcode ? PyUnicode_FromString("") : NULL;
    PyObject *code = name == NULL ? NULL
        : pymon_make_code(nop, name, name, name, 1, sample, NUMBER);
    PyObject *list = code == NULL ? NULL : pymon_call(
        Py_NewRef((PyObject *)&PyList_Type), "(N)",
        PyObject_CallMethod(code, "co_positions", NULL));
    int good = list != NULL && PyList_Size(list) == NUMBER + 2;
    for (int i = 0; good && i < NUMBER; i++) {
        PyCodeLocation found;
        good = pymon_read_row(PyList_GetItem(list, i), 0, &found) == 0
            && found.lineno == sample[i].lineno
            /* python -X no_debug_ranges leaves the line alone. */
            && (memcmp(&found, &sample[i], sizeof(found)) == 0
                || (found.col_offset & found.end_col_offset) == -1);
    }
    Py_XDECREF(map);
    Py_XDECREF(opcode);
    Py_XDECREF(name);
    Py_XDECREF(code);
    Py_XDECREF(list);
    /* What has another shape is no error. */
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_KeyError)
        && !PyErr_ExceptionMatches(PyExc_TypeError)
        && !PyErr_ExceptionMatches(PyExc_ValueError))
    {
        return -1;
    }
    PyErr_Clear();
    nop = good ? nop : 0;
    PYMON_STORE(&pymon_nop, (uint8_t)(nop + 1));
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
        if (names[i] == NULL) {
            return PyErr_Format(PyExc_TypeError, "%s must be str, not NULL",
                                whats[i]);
        }
        if (!PyUnicode_CheckExact(names[i])) {
            return PyErr_Format(PyExc_TypeError, "%s must be str, not %R",
                                whats[i], Py_TYPE(names[i]));
        }
    }
    const char *problem =
        firstlineno < 0 ? "firstlineno must not be negative"
        : num_locations < 0 ? "num_locations must not be negative"
        : locations == NULL && num_locations > 0 && num_locations <= maximum
        ? "locations must not be NULL" : NULL;
    if (problem != NULL) {
        return PyErr_Format(PyExc_ValueError, "%s", problem);
    }
    if (num_locations > maximum) {
        return PyErr_Format(PyExc_OverflowError,
                            "%zd locations are too many, %zd are possible",
                            num_locations, maximum);
    }
    for (Py_ssize_t i = 0; i < num_locations; i++) {
        problem = pymon_find_problem(&locations[i]);
        if (problem != NULL) {
            return PyErr_Format(PyExc_ValueError, "location %zd: %s", i,
                                problem);
        }
    }
    int nop = pymon_find_nop();
    return nop < 0 ? NULL
        : pymon_make_code(nop, filename, name, qualname, firstlineno,
                          locations, num_locations);
}

/* The file that an offset in a code-like means, a new reference, and the
   location, of which what cannot be known is -1. */
static inline PyObject *
pymon_locate(PyObject *codelike, int32_t offset, PyCodeLocation *location)
{
    PyObject *filename = NULL;
    PyObject *row = NULL;
    PyObject *method = PyObject_GetAttrString(codelike, "co_location");
    const int first = method != NULL;
    if (first) {
        row = pymon_call(method, "(i)", (int)offset);
    }
    else {
        PyErr_Clear();
        PyObject *iterator = pymon_call(
            pymon_import("builtins", "iter"), "(N)",
            PyObject_CallMethod(codelike, "co_positions", NULL));
        row = iterator ? PyIter_Next(iterator) : NULL;
        for (int32_t i = offset / 2; row != NULL && i > 0; i--) {
            Py_DECREF(row);
            row = PyIter_Next(iterator);
        }
        Py_XDECREF(iterator);
    }
    int is_known = row != NULL && offset >= 0 && offset % 2 == 0;
    if (!is_known || pymon_read_row(row, first, location) < 0) {
        *location = pymon_nowhere;
    }
    if (is_known && first) {
        PyObject *name = PyTuple_GetItem(row, 0);
        filename = name && PyUnicode_Check(name) ? Py_NewRef(name) : NULL;
    }
    PyErr_Clear();
    Py_XDECREF(row);
    return filename ? filename
                    : PyObject_GetAttrString(codelike, "co_filename");
}

/* Code to show a code-like at one location: a code object itself, else some
   that has that location alone.  If *lineno is 0, that is set. */
static inline PyObject *
pymon_shown_code(PyObject *codelike, int32_t offset, int *lineno, int *lasti)
{
    PyCodeLocation at = pymon_nowhere;
    PyObject *code = NULL;
    PyObject *filename = NULL;
#ifndef Py_LIMITED_API
    /* A frame of 3.12 looks for free variables in a closure. */
    if (PyCode_Check(codelike) && (
            !PYMON_TABLES || ((PyCodeObject *)codelike)->co_nfreevars == 0))
    {
        code = Py_NewRef(codelike);
        at.lineno = offset >= 0
            && offset / 2 < Py_SIZE((PyVarObject *)codelike)
            ? PyCode_Addr2Line((PyCodeObject *)codelike, offset) : -1;
    }
#endif
    if (code == NULL) {
        filename = pymon_locate(codelike, offset, &at);
    }
    if (*lineno == 0 && at.lineno > 0) {
        *lineno = at.lineno;
    }
    if (*lineno == 0) {
        PyObject *first = PyObject_GetAttrString(codelike, "co_firstlineno");
        *lineno = first ? (int)PyLong_AsLong(first) : 0;
        Py_XDECREF(first);
    }
    *lasti = at.lineno <= 0 || at.lineno != *lineno ? -1
        : code != NULL ? (int)offset : 0;
    PyObject *name = code != NULL || PyErr_Occurred() ? NULL
        : PyObject_GetAttrString(codelike, "co_name");
    int nop = name ? pymon_find_nop() : -1;
    if (nop >= 0 && filename != NULL) {
        const PyCodeLocation line = {*lineno, *lineno, -1, -1};
        at = *lasti < 0 ? line : at;
        /* A frame that is new is at one of the first units. */
        const PyCodeLocation locations[] = {at, at, at, at};
        code = pymon_replace(
            pymon_sample(1), "{sOsOsOsisN}", "co_filename", filename,
            "co_name", name, "co_qualname", name, "co_firstlineno", *lineno,
            "co_linetable", nop != 0
            ? pymon_new_table(locations, 4, 64, *lineno)
            : PyBytes_FromStringAndSize(NULL, 0));
    }
    Py_XDECREF(name);
    Py_XDECREF(filename);
    return code;
}

/* A new frame for code.  Steals the reference, which may be NULL on error. */
static inline PyObject *
pymon_new_frame(PyObject *code)
{
    PyObject *globals = code ? PyDict_New() : NULL;
    PyObject *frame = NULL;
    if (globals != NULL) {
#ifdef Py_LIMITED_API
        /* A generator has one before it runs. */
        PyObject *generator = pymon_call(
            pymon_call(pymon_import("types", "FunctionType"), "(OO)", code,
                       globals), "()");
        frame = generator ? PyObject_GetAttrString(generator, "gi_frame")
                          : NULL;
        Py_XDECREF(generator);
#else
        frame = (PyObject *)PyFrame_New(PyThreadState_Get(),
                                        (PyCodeObject *)code, globals, NULL);
#endif
    }
    Py_XDECREF(globals);
    Py_XDECREF(code);
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
    int lasti = -1;
    /* What the code-like does when asked is not the program's. */
    int before = pymon_pause();
    PyObject *frame = pymon_new_frame(
        pymon_shown_code(codelike, offset, &lineno, &lasti));
    pymon_resume(before);
    PyObject *traceback = frame == NULL ? NULL : PyObject_CallFunction(
        (PyObject *)&PyTraceBack_Type, "ONii", next ? next : Py_None, frame,
        lasti, lineno);
    Py_XDECREF(next);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(exc, traceback);
    }
    /* Drops what went wrong. */
    PyErr_SetRaisedException(exc);
    Py_XDECREF(traceback);
    return traceback != NULL ? 0 : -1;
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
