/* The test layer as an extension module of its own, _monitoring_layer: one
   binary for every interpreter that is compared. */

#include "parts.h"

#ifndef PY_MONITORING_EVENT_BRANCH_LEFT
/* What stock's headers lack: BRANCH under its later names, and functions that
   are missing where the interpreter is stock's. */

#define PY_MONITORING_EVENT_BRANCH_LEFT PY_MONITORING_EVENT_BRANCH
#define PY_MONITORING_EVENT_BRANCH_RIGHT PY_MONITORING_EVENT_BRANCH
#define PyMonitoring_FireBranchLeftEvent PyMonitoring_FireBranchEvent
#define PyMonitoring_FireBranchRightEvent PyMonitoring_FireBranchEvent

#define WEAK __attribute__((weak))

typedef int FireCallFunction(PyMonitoringState *, PyObject *, int32_t,
                             PyObject *, PyObject *);
WEAK FireCallFunction _PyMonitoring_FireCallReturnEvent;
WEAK FireCallFunction _PyMonitoring_FireCallRaiseEvent;
WEAK PyObject *_PyMonitoring_Vectorcall(
    PyMonitoringState *, PyMonitoringState *, PyMonitoringState *, PyObject *,
    int32_t, PyObject *, PyObject *const *, size_t, PyObject *);
WEAK int _PyMonitoring_SetFrameNamespaces(PyObject *, PyObject *, PyObject *);
WEAK int _PyMonitoring_AddTraceback(PyObject *, int32_t, int);

static int
PyMonitoring_FireCallReturnEvent(PyMonitoringState *state, PyObject *codelike,
                                 int32_t offset, PyObject *callable,
                                 PyObject *arg0)
{
    FireCallFunction *function = _PyMonitoring_FireCallReturnEvent;
    return state->active && function
        ? function(state, codelike, offset, callable, arg0) : 0;
}

static int
PyMonitoring_FireCallRaiseEvent(PyMonitoringState *state, PyObject *codelike,
                                int32_t offset, PyObject *callable,
                                PyObject *arg0)
{
    FireCallFunction *function = _PyMonitoring_FireCallRaiseEvent;
    return state->active && function
        ? function(state, codelike, offset, callable, arg0) : 0;
}

static PyObject *
PyMonitoring_Vectorcall(PyMonitoringState *call, PyMonitoringState *c_return,
                        PyMonitoringState *c_raise, PyObject *codelike,
                        int32_t offset, PyObject *callable,
                        PyObject *const *args, size_t nargsf,
                        PyObject *kwnames)
{
    return call->active && _PyMonitoring_Vectorcall
        ? _PyMonitoring_Vectorcall(call, c_return, c_raise, codelike, offset,
                                   callable, args, nargsf, kwnames)
        : PyObject_Vectorcall(callable, args, nargsf, kwnames);
}

static int
PyMonitoring_SetFrameNamespaces(PyMonitoringState *state, PyObject *codelike,
                                PyObject *globals, PyObject *locals)
{
    return state->active && _PyMonitoring_SetFrameNamespaces
        ? _PyMonitoring_SetFrameNamespaces(codelike, globals, locals) : 0;
}

static int
PyMonitoring_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
{
    return _PyMonitoring_AddTraceback
        ? _PyMonitoring_AddTraceback(codelike, offset, lineno) : -1;
}
#endif

#include "monitoring.c"

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, _PyTestCapi_Init_Monitoring},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_monitoring_layer",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__monitoring_layer(void)
{
    return PyModuleDef_Init(&module);
}
