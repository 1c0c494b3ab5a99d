#ifndef Py_INTERNAL_CODELIKES_H
#define Py_INTERNAL_CODELIKES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_instruments.h"   // PY_MONITORING_TOOL_IDS
#include "pycore_lock.h"          // PyMutex

/* What monitoring tools chose for single code-likes: the locations that they
   disabled, and local events.  It never keeps a code-like alive, and is
   forgotten when the code-like dies.

   All functions need an attached thread state of the interpreter.  Sets of
   tools are bit masks, tool 0 being bit 0. */

struct _Py_codelike;              // what is known of one code-like

struct _Py_codelikes_state {
    PyMutex mutex;                // everything below, on free-threaded builds
    /* A hash table by address, with empty slots NULL. */
    struct _Py_codelike **slots;
    size_t num_slots;             // 0 or a power of two
    size_t num_codelikes;
    PyObject *type;               // of struct _Py_codelike, or NULL
    PyObject *died;               // what its weak references call
    /* For each local event, how many code-likes each tool has it on. */
    size_t local_counts[_PY_MONITORING_LOCAL_EVENTS][PY_MONITORING_TOOL_IDS];
    /* The tools that have it on any. */
    uint8_t local_tools[_PY_MONITORING_LOCAL_EVENTS];
    /* Whether any location is disabled for it. */
    uint8_t has_disabled[_PY_MONITORING_LOCAL_EVENTS];
    bool changed;                 // local_tools, since the state was locked
};

/* Keep other threads from changing what is known; a no-op where there is a
   GIL.  The functions below lock by themselves. */
extern void _Py_codelikes_lock(PyInterpreterState *interp);
extern void _Py_codelikes_unlock(PyInterpreterState *interp);

/* Return the tools that have the local event on the code-like. */
extern uint8_t _Py_codelike_local_tools(
    PyInterpreterState *interp, PyObject *codelike, int event);

/* Return the tools for which the location, an offset or for LINE a line, is
   disabled. */
extern uint8_t _Py_codelike_disabled_tools(
    PyInterpreterState *interp, PyObject *codelike, int event, int location);

/* Disable the location for a tool.  Return 1 on success, 0 if the code-like
   cannot be weakly referenced, and -1 with MemoryError set. */
extern int _Py_codelike_disable(
    PyInterpreterState *interp, PyObject *codelike, int event, int location,
    int tool);

/* Have the death of the code-like, if it can be weakly referenced, end the
   calls that wait for it.  Return 0 on success, and -1 with MemoryError set. */
extern int _Py_codelike_watch(PyInterpreterState *interp, PyObject *codelike);

/* Set the local events of a tool on the code-like.  Return 0 on success, and
   -1 with an exception set, TypeError if it cannot be weakly referenced;
   nothing is changed then. */
extern int _Py_codelike_set_local_events(
    PyInterpreterState *interp, PyObject *codelike, int tool, uint32_t events);

extern uint32_t _Py_codelike_get_local_events(
    PyInterpreterState *interp, PyObject *codelike, int tool);

/* Forget all disabled locations. */
extern void _Py_codelikes_restart(PyInterpreterState *interp);

/* Forget the tool's disabled locations and its local events. */
extern void _Py_codelikes_free_tool(PyInterpreterState *interp, int tool);

/* Forget everything. */
extern void _Py_codelikes_clear(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_CODELIKES_H */
