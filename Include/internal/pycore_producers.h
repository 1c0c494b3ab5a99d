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

/* The tool to tell of an event, where one tool has a callback for it. */
struct _Py_only_tool {
    /* In the callback, a function or a method: what calls it.  NULL unless
       every code-like and location is to be told; the rest is undefined then.
       */
    vectorcallfunc *vectorcall;
    PyObject *callback;
    uint32_t owner;             /* of the tool: _Py_codelikes_owner() */
};

struct _Py_producers {
    /* That listen to the event of some code-like: what states are made of. */
    uint8_t listeners[_PY_MONITORING_EVENTS];
    /* Those of them that have a callback for it; for CALL, or an answer. */
    uint8_t told[_PY_MONITORING_EVENTS];
    /* That have a callback for C_RETURN or C_RAISE. */
    uint8_t answered;
    struct _Py_only_tool only[_PY_MONITORING_EVENTS];
    /* Callbacks that were replaced while producers' callbacks ran. */
    struct _Py_retired_callback *retired;
};

/* Have the above follow a change of events or callbacks. */
extern void _PyMonitoring_UpdateProducers(PyInterpreterState *interp);

/* Remove all callbacks: the interpreter ends. */
extern void _PyMonitoring_ClearCallbacks(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_PRODUCERS_H */
