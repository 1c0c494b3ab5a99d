/* The module _monitoring_layer: the test layer, with what the tests have to
   know of the events of this interpreter. */

#include "monitoring.c"

/* PyCode_NewWithLocations(), and what reads such code: what the series adds to
   CPython's _testcapi/code.c. */
#include "code_locations.h"

/* one_state_each(codelike, change): a function of foreign code as a just-in-time
   compiler makes it.  Each event has a state of its own in a C local, every
   location is 0, and after change() the scope is entered again. */
static PyObject *
one_state_each(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const uint8_t types[] = {
        PY_MONITORING_EVENT_PY_START, PY_MONITORING_EVENT_LINE,
        PY_MONITORING_EVENT_PY_RETURN,
    };
    enum { NUMBER = sizeof(types) };
    PyMonitoringState start, line, ret;
    PyMonitoringState *states[] = {&start, &line, &ret};
    uint64_t versions[NUMBER] = {0};
    PyObject *codelike, *change;
    if (!PyArg_ParseTuple(args, "OO", &codelike, &change)) {
        return NULL;
    }
    int err = 0;
    for (int i = 0; i < NUMBER; i++) {
        err |= PyMonitoring_EnterScope(states[i], &versions[i], &types[i], 1);
    }
    err |= PyMonitoring_FirePyStartEvent(&start, codelike, 0);
    err |= PyMonitoring_FireLineEvent(&line, codelike, 0, 1);
    PyObject *res = err ? NULL : PyObject_CallNoArgs(change);
    if (res == NULL) {
        return NULL;
    }
    Py_DECREF(res);
    for (int i = 0; i < NUMBER; i++) {
        err |= PyMonitoring_EnterScope(states[i], &versions[i], &types[i], 1);
    }
    err |= PyMonitoring_FireLineEvent(&line, codelike, 0, 2);
    err |= PyMonitoring_FirePyReturnEvent(&ret, codelike, 0, Py_None);
    for (int i = 0; i < 2 * NUMBER; i++) {
        err |= PyMonitoring_ExitScope();
    }
    return err ? NULL : Py_NewRef(Py_None);
}

PyObject *fire_elsewhere(PyObject *module, PyObject *codelike);

static PyMethodDef layer_methods[] = {
    {"code_newwithlocations", code_newwithlocations, METH_VARARGS, NULL},
    {"code_location_offset", code_location_offset, METH_O, NULL},
    {"code_addr2line", code_addr2line, METH_VARARGS, NULL},
    {"code_addr2location", code_addr2location, METH_VARARGS, NULL},
    {"fire_elsewhere", fire_elsewhere, METH_O, NULL},
    {"one_state_each", one_state_each, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
layer_exec(PyObject *module)
{
#define ADD_EVENT(NAME) \
    PyModule_AddIntConstant(module, "EVENT_" #NAME, \
                            PY_MONITORING_EVENT_ ## NAME)
#ifdef ABI3_EVENTS
#define ADD_ID(NAME, ID) \
    if (PyModule_AddIntConstant(module, "EVENT_" #NAME, ID) < 0) { \
        return -1; \
    }
    ABI3_EVENTS(ADD_ID)
    int header_adds = 1;
    int lacks_calls = 0;
#elif defined(PYMON_TABLES)
    int header_adds = 1;
    int lacks_calls = 0;
#else
    int header_adds = 0;
    int lacks_calls = &_PyMonitoring_Vectorcall == NULL;
#endif
    if (PyModule_AddIntConstant(module, "HEADER_ADDS", header_adds) < 0
        || PyModule_AddIntConstant(module, "LACKS_CALLS", lacks_calls) < 0
        || ADD_EVENT(BRANCH) < 0 || ADD_EVENT(BRANCH_LEFT) < 0
        || ADD_EVENT(BRANCH_RIGHT) < 0)
    {
        return -1;
    }
    return _PyTestCapi_Init_Monitoring(module);
}

static PyModuleDef_Slot layer_slots[] = {
    {Py_mod_exec, (void *)layer_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef layer_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_monitoring_layer",
    .m_methods = layer_methods,
    .m_slots = layer_slots,
};

PyMODINIT_FUNC
PyInit__monitoring_layer(void)
{
    return PyModuleDef_Init(&layer_module);
}
