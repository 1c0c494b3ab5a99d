/* A second source file of the module _monitoring_layer. */

#include <Python.h>

PyObject *fire_elsewhere(PyObject *module, PyObject *codelike);

/* fire_elsewhere(codelike): LINE for line 1. */
PyObject *
fire_elsewhere(PyObject *Py_UNUSED(module), PyObject *codelike)
{
    static const uint8_t types[] = {PY_MONITORING_EVENT_LINE};
    PyMonitoringState state;
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(&state, &version, types, 1);
    err |= PyMonitoring_FireLineEvent(&state, codelike, 0, 1);
    err |= PyMonitoring_ExitScope();
    return err ? NULL : Py_NewRef(Py_None);
}
