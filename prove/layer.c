/* The test layer as an extension module of its own, _monitoring_layer: one
   binary for every interpreter that is compared. */

#include "parts.h"

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
