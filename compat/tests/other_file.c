/* A second source file of the module _monitoring_layer. */

#include <Python.h>

PyObject *fire_elsewhere(PyObject *module, PyObject *codelike);

/* fire_elsewhere(codelike): LINE for line 1, and C_RETURN. */
PyObject *
fire_elsewhere(PyObject *Py_UNUSED(module), PyObject *codelike)
{
    static const uint8_t types[] = {
        PY_MONITORING_EVENT_LINE, PY_MONITORING_EVENT_C_RETURN,
    };
    PyMonitoringState states[sizeof(types)];
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(states, &version, types, sizeof(types));
    err |= PyMonitoring_FireLineEvent(&states[0], codelike, 0, 1);
    err |= PyMonitoring_FireCReturnEvent(&states[1], codelike, 0, Py_None);
    err |= PyMonitoring_ExitScope();
    return err ? NULL : Py_NewRef(Py_None);
}
