/* CALL events of producers that wait for their C_RETURN or C_RAISE. */

#include "Python.h"
#include "pycore_codelikes.h"     // _Py_codelike_watch()
#include "pycore_pyatomic_ft_wrappers.h"
#include "pycore_pystate.h"       // HEAD_LOCK()
#include "pycore_runtime.h"       // _PyRuntime
#include "pycore_tstate.h"        // _PyThreadStateImpl.waiting_calls
#include "pycore_waiting_calls.h"

#ifdef Py_GIL_DISABLED
/* It is also taken under HEAD_LOCK(), with which no thread may be stopped: who
   waits for it stays attached, and who holds it too. */
#  define LOCK(WAITING) \
    PyMutex_LockFlags(&(WAITING)->mutex, _Py_LOCK_DONT_DETACH)
#  define UNLOCK(WAITING) PyMutex_Unlock(&(WAITING)->mutex)
#else
#  define LOCK(WAITING) ((void)(WAITING))
#  define UNLOCK(WAITING) ((void)(WAITING))
#endif

typedef struct _Py_waiting_calls waiting_calls;

static waiting_calls *
calls_of(PyThreadState *tstate)
{
    return &((_PyThreadStateImpl *)tstate)->waiting_calls;
}

/* Return the index of the newest call up to a serial, or -1. */
static int
find_serial(waiting_calls *waiting, uint64_t serial)
{
    int i = waiting->num_calls - 1;
    while (i >= 0 && waiting->calls[i].serial > serial) {
        i--;
    }
    return i;
}

static _Py_waiting_call
take_index(waiting_calls *waiting, int i)
{
    _Py_waiting_call call = waiting->calls[i];
    waiting->num_calls--;
    memmove(&waiting->calls[i], &waiting->calls[i + 1],
            (waiting->num_calls - i) * sizeof(call));
    return call;
}

void
_Py_waiting_call_release(_Py_waiting_call *call)
{
    Py_XDECREF(call->callable);
    Py_XDECREF(call->arg0);
}

/* ------ The current thread's ------ */

void
_Py_waiting_calls_enter(PyThreadState *tstate, const uint64_t *version)
{
    waiting_calls *waiting = calls_of(tstate);
    LOCK(waiting);
    if (waiting->entered != version) {
        waiting->entered = version;
        waiting->depth++;
    }
    UNLOCK(waiting);
}

void
_Py_waiting_calls_called(PyThreadState *tstate)
{
    waiting_calls *waiting = calls_of(tstate);
    LOCK(waiting);
    waiting->entered = NULL;
    UNLOCK(waiting);
}

void
_Py_waiting_calls_exit(PyThreadState *tstate)
{
    waiting_calls *waiting = calls_of(tstate);
    LOCK(waiting);
    int64_t depth = waiting->depth;
    waiting->depth--;
    waiting->entered = NULL;
    /* What is released may fire a CALL, which is not one of this scope.  Of
       those before, depths never decrease from a call to the next. */
    uint64_t last = waiting->last_serial;
    int i;
    while ((i = find_serial(waiting, last)) >= 0
           && waiting->calls[i].depth >= depth)
    {
        _Py_waiting_call call = take_index(waiting, i);
        UNLOCK(waiting);
        _Py_waiting_call_release(&call);
        LOCK(waiting);
    }
    UNLOCK(waiting);
}

/* Make room for one call.  Return -1 if there is no memory. */
static int
reserve_call(waiting_calls *waiting)
{
    if (waiting->num_calls < waiting->num_slots) {
        return 0;
    }
    int num_slots = waiting->num_slots ? 2 * waiting->num_slots : 8;
    _Py_waiting_call *calls = PyMem_Realloc(waiting->calls,
                                            num_slots * sizeof(*calls));
    if (calls == NULL) {
        return -1;
    }
    waiting->calls = calls;
    waiting->num_slots = num_slots;
    return 0;
}

/* If there are more calls than can nest, exits are missing: detach the older
   half.  Return its array, which the caller releases, and set *length; or
   return NULL. */
static _Py_waiting_call *
detach_surplus(waiting_calls *waiting, int *length)
{
    *length = 0;
    if (waiting->num_calls < Py_C_RECURSION_LIMIT) {
        return NULL;
    }
    _Py_waiting_call *kept = PyMem_New(_Py_waiting_call, waiting->num_slots);
    if (kept == NULL) {
        return NULL;
    }
    _Py_waiting_call *detached = waiting->calls;
    *length = waiting->num_calls / 2;
    waiting->num_calls -= *length;
    memcpy(kept, detached + *length, waiting->num_calls * sizeof(*kept));
    waiting->calls = kept;
    return detached;
}

static void
release_calls(_Py_waiting_call *calls, int length)
{
    for (int i = length - 1; i >= 0; i--) {
        _Py_waiting_call_release(&calls[i]);
    }
    PyMem_Free(calls);
}

int
_Py_waiting_calls_push(PyThreadState *tstate, _Py_waiting_call *call)
{
    /* Its death must be noticed before another object gets its address.  One
       that cannot be watched has to live until the exit. */
    if (_Py_codelike_watch(tstate->interp, call->codelike) < 0) {
        return -1;
    }
    waiting_calls *waiting = calls_of(tstate);
    LOCK(waiting);
    int num_surplus;
    _Py_waiting_call *surplus = detach_surplus(waiting, &num_surplus);
    int err = reserve_call(waiting);
    /* Unless those whom it is for went while a lock or memory was got. */
    uint8_t answered =
        FT_ATOMIC_LOAD_UINT8_RELAXED(tstate->interp->producers.answered);
    bool waits = err == 0 && (answered & (call->told | call->disabled));
    if (waits) {
        call->serial = ++waiting->last_serial;
        call->depth = waiting->depth;
        waiting->calls[waiting->num_calls++] = *call;
        Py_XINCREF(call->callable);
        Py_XINCREF(call->arg0);
    }
    UNLOCK(waiting);
    release_calls(surplus, num_surplus);
    if (err < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return waits;
}

bool
_Py_waiting_calls_take(PyThreadState *tstate, PyObject *codelike,
                       _Py_waiting_call *call)
{
    waiting_calls *waiting = calls_of(tstate);
    bool taken = false;
    LOCK(waiting);
    for (int i = waiting->num_calls - 1; i >= 0 && !taken; i--) {
        if (waiting->calls[i].codelike == codelike) {
            *call = take_index(waiting, i);
            taken = true;
        }
    }
    UNLOCK(waiting);
    return taken;
}

void
_Py_waiting_calls_forget(PyThreadState *tstate, uint64_t serial)
{
    waiting_calls *waiting = calls_of(tstate);
    _Py_waiting_call call = {0};
    LOCK(waiting);
    int i = find_serial(waiting, serial);
    if (i >= 0 && waiting->calls[i].serial == serial) {
        call = take_index(waiting, i);
    }
    UNLOCK(waiting);
    _Py_waiting_call_release(&call);
}

void
_Py_waiting_calls_clear(PyThreadState *tstate)
{
    waiting_calls *waiting = calls_of(tstate);
    /* Others see a thread that clears itself.  One that is cleared by another
       is gone, and may have held its lock when the process forked. */
    bool locked = tstate == _PyThreadState_GET();
    _Py_waiting_call *calls;
    do {
        if (locked) {
            LOCK(waiting);
        }
        calls = waiting->calls;
        int num_calls = waiting->num_calls;
        waiting->calls = NULL;
        waiting->num_calls = waiting->num_slots = 0;
        if (locked) {
            UNLOCK(waiting);
        }
        /* What is released may fire a CALL. */
        release_calls(calls, num_calls);
    } while (calls != NULL);
}

/* ------ Those of all threads ------ */

/* Take off one call for the code-like, or for any if that is NULL.  Return
   whether there is one. */
static bool
take_from_any_thread(PyInterpreterState *interp, PyObject *codelike,
                     _Py_waiting_call *call)
{
    bool taken = false;
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *tstate = interp->threads.head;
         tstate != NULL && !taken; tstate = tstate->next)
    {
        waiting_calls *waiting = calls_of(tstate);
        LOCK(waiting);
        for (int i = waiting->num_calls - 1; i >= 0 && !taken; i--) {
            if (codelike == NULL || waiting->calls[i].codelike == codelike) {
                *call = take_index(waiting, i);
                taken = true;
            }
        }
        UNLOCK(waiting);
    }
    HEAD_UNLOCK(&_PyRuntime);
    return taken;
}

/* Forget that the tool was told of the calls.  Return whether that leaves one
   of which no tool was told; its objects are then moved to *call. */
static bool
strip_call_of_tool(PyInterpreterState *interp, int tool,
                   _Py_waiting_call *call)
{
    bool stripped = false;
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *tstate = interp->threads.head;
         tstate != NULL && !stripped; tstate = tstate->next)
    {
        waiting_calls *waiting = calls_of(tstate);
        LOCK(waiting);
        for (int i = 0; i < waiting->num_calls && !stripped; i++) {
            _Py_waiting_call *other = &waiting->calls[i];
            other->told &= ~(1 << tool);
            other->disabled &= ~(1 << tool);
            if (other->told == 0 && other->callable != NULL) {
                *call = *other;
                other->callable = other->arg0 = NULL;
                stripped = true;
            }
        }
        UNLOCK(waiting);
    }
    HEAD_UNLOCK(&_PyRuntime);
    return stripped;
}

void
_Py_waiting_calls_forget_codelike(PyInterpreterState *interp,
                                  PyObject *codelike)
{
    _Py_waiting_call call;
    while (take_from_any_thread(interp, codelike, &call)) {
        _Py_waiting_call_release(&call);
    }
}

void
_Py_waiting_calls_free_tool(PyInterpreterState *interp, int tool)
{
    _Py_waiting_call call;
    while (strip_call_of_tool(interp, tool, &call)) {
        _Py_waiting_call_release(&call);
    }
}

void
_Py_waiting_calls_forget_all(PyInterpreterState *interp)
{
    _Py_waiting_call call;
    while (take_from_any_thread(interp, NULL, &call)) {
        _Py_waiting_call_release(&call);
    }
}
