#ifndef Py_INTERNAL_WAITING_CALLS_H
#define Py_INTERNAL_WAITING_CALLS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_lock.h"          // PyMutex

/* The CALL events of producers that wait for their C_RETURN or C_RAISE, which
   report the same callable and first argument.

   Each thread has those that it fired, in order, and forgets what was fired in
   a scope when it exits the scope.  Sets of tools are bit masks, tool 0 being
   bit 0. */

typedef struct {
    PyObject *codelike;           // borrowed, to compare with
    PyObject *callable;           // NULL: not kept
    PyObject *arg0;               // NULL: not kept
    uint64_t serial;              // in its thread
    int64_t depth;                // of scopes
    uint8_t told;                 // tools that were told of the CALL
    uint8_t disabled;             // tools that disabled its location
} _Py_waiting_call;

/* Only its thread adds to it, others may take away. */
struct _Py_waiting_calls {
    PyMutex mutex;                // everything below, on free-threaded builds
    _Py_waiting_call *calls;
    int num_calls;
    int num_slots;
    uint64_t last_serial;
    int64_t depth;                // enters less exits, those that are told
    const uint64_t *entered;      // where the last scope has its version
};

/* Count a scope that the current thread enters, which it has to exit, unless
   it repeats the call that entered the last one: there was no exit and no CALL
   since. */
extern void _Py_waiting_calls_enter(PyThreadState *tstate,
                                    const uint64_t *version);

/* The current thread fires a CALL. */
extern void _Py_waiting_calls_called(PyThreadState *tstate);

/* Forget the calls of the scope that the current thread exits.  An exit
   without its enter is harmless: depths are only compared. */
extern void _Py_waiting_calls_exit(PyThreadState *tstate);

/* Have a call wait in the current thread, and set its serial.  All references
   are borrowed.  Return 1 on success, 0 if none of its tools wants answers any
   more, and -1 with MemoryError set. */
extern int _Py_waiting_calls_push(PyThreadState *tstate,
                                  _Py_waiting_call *call);

/* Forget a call of the current thread, if it still waits. */
extern void _Py_waiting_calls_forget(PyThreadState *tstate, uint64_t serial);

/* Take off the newest call of the current thread for the code-like.  Return
   whether there is one; its objects are then new references. */
extern bool _Py_waiting_calls_take(PyThreadState *tstate, PyObject *codelike,
                                   _Py_waiting_call *call);

/* Release the objects of a call that was taken off. */
extern void _Py_waiting_call_release(_Py_waiting_call *call);

/* Forget what waits for a code-like in any thread: it died. */
extern void _Py_waiting_calls_forget_codelike(PyInterpreterState *interp,
                                              PyObject *codelike);

/* Forget that the tool was told, and what no other tool was told of. */
extern void _Py_waiting_calls_free_tool(PyInterpreterState *interp, int tool);

/* Forget all calls of all threads. */
extern void _Py_waiting_calls_forget_all(PyInterpreterState *interp);

/* Release what a thread has that ended. */
extern void _Py_waiting_calls_clear(PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_WAITING_CALLS_H */
