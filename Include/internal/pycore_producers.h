#ifndef Py_INTERNAL_PRODUCERS_H
#define Py_INTERNAL_PRODUCERS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Which tools an interpreter has for the events of code that is not bytecode:
   one place to look for what follows from global and local events and from
   callbacks.  Sets of tools are bit masks, tool 0 being bit 0; tools 6 and 7
   are never among them. */

struct _Py_producers {
    /* That listen to the event of some code-like: what states are made of. */
    uint8_t listeners[_PY_MONITORING_EVENTS];
    /* Those of them that have a callback for it; for CALL, or an answer. */
    uint8_t told[_PY_MONITORING_EVENTS];
    /* That have a callback for C_RETURN or C_RAISE. */
    uint8_t answered;
    /* The callback of the event, if one tool has one and every code-like and
       location is told; otherwise NULL. */
    PyObject *only_callback[_PY_MONITORING_EVENTS];
    /* Callbacks that were replaced while they may have run. */
    struct _Py_retired_callback *retired;
};

/* Have the above follow a change of events or callbacks. */
extern void _PyMonitoring_UpdateProducers(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_PRODUCERS_H */
