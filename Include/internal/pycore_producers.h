#ifndef Py_INTERNAL_PRODUCERS_H
#define Py_INTERNAL_PRODUCERS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_instruments.h"   // _PY_MONITORING_EVENTS

/* Which tools an interpreter has for the events of code that is not bytecode:
   all that follows from global events, callbacks and the use of local events.
   It changes while the world is stopped, but for `vectorcall`, which can become
   NULL.  Sets of tools are bit masks, tool 0 being bit 0. */

struct _Py_event_tools {
    /* Where the only callback, a function or a method, has what calls it, if
       it is to be called for every code-like and location; otherwise NULL, and
       the callback and its tool's owner are undefined. */
    vectorcallfunc *vectorcall;
    PyObject *callback;
    uint32_t owner;             /* _Py_codelikes_owner() */
    uint8_t called;             /* that have a callback, and the event on */
    uint8_t local;              /* those of them for some code-likes only */
    uint8_t legacy;             /* those of them for sys.setprofile() and so on */
    uint8_t event;
    uint8_t group;              /* CALL for C_RETURN and C_RAISE */
    uint8_t nargs;              /* of its callbacks */
};

struct _Py_producers {
    struct _Py_event_tools events[_PY_MONITORING_EVENTS];
    PyMonitoringState states[_PY_MONITORING_EVENTS];    /* as they are now */
    uint8_t use_local;          /* that chose local events since taken */
    bool keeps_frames;          /* somebody looked at a foreign frame */
};

/* Have the above follow a change.  The world must be stopped. */
extern void _PyMonitoring_UpdateProducers(PyInterpreterState *interp);

/* Remove all callbacks: the interpreter ends. */
extern void _PyMonitoring_ClearCallbacks(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_PRODUCERS_H */
