/* The module _monitoring_layer: the test layer, with what the tests have to
   know of the events of this interpreter. */

#include "monitoring.c"

static int
layer_exec(PyObject *module)
{
#define ADD_EVENT(NAME) \
    PyModule_AddIntConstant(module, "EVENT_" #NAME, \
                            PY_MONITORING_EVENT_ ## NAME)
#ifdef PYMONITORING_COMPAT_TABLES
    int header_adds = 1;
#else
    int header_adds = 0;
#endif
    if (PyModule_AddIntConstant(module, "HEADER_ADDS", header_adds) < 0
        || ADD_EVENT(BRANCH) < 0 || ADD_EVENT(BRANCH_LEFT) < 0
        || ADD_EVENT(BRANCH_RIGHT) < 0)
    {
        return -1;
    }
    return _PyTestCapi_Init_Monitoring(module);
}

static PyModuleDef_Slot layer_slots[] = {
    {Py_mod_exec, (void *)layer_exec},
    {0, NULL},
};

static struct PyModuleDef layer_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_monitoring_layer",
    .m_slots = layer_slots,
};

PyMODINIT_FUNC
PyInit__monitoring_layer(void)
{
    return PyModuleDef_Init(&layer_module);
}
