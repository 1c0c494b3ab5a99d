/* The module _monitoring_abi3: the header with the limited C-API of 3.12.  It is
   built once and loaded by every version.

   Its functions are the test layer's, by way of abi3.h.  By itself it is a
   producer of one line. */

#include "abi3.h"

#define CHECK_ID(NAME, ID) \
    _Static_assert(PY_MONITORING_EVENT_ ## NAME == ID, #NAME);
ABI3_EVENTS(CHECK_ID)

#define DEFINE_PLAIN(NAME) \
    int \
    abi3_ ## NAME(PyMonitoringState *state, PyObject *codelike, \
                  int32_t offset) \
    { \
        return PyMonitoring_ ## NAME(state, codelike, offset); \
    }
#define DEFINE_VALUE(NAME) \
    int \
    abi3_ ## NAME(PyMonitoringState *state, PyObject *codelike, \
                  int32_t offset, PyObject *value) \
    { \
        return PyMonitoring_ ## NAME(state, codelike, offset, value); \
    }
#define DEFINE_CALL(NAME) \
    int \
    abi3_ ## NAME(PyMonitoringState *state, PyObject *codelike, \
                  int32_t offset, PyObject *callable, PyObject *arg0) \
    { \
        return PyMonitoring_ ## NAME(state, codelike, offset, callable, \
                                     arg0); \
    }

ABI3_PLAIN(DEFINE_PLAIN)
ABI3_VALUE(DEFINE_VALUE)
ABI3_CALL(DEFINE_CALL)

int
abi3_EnterScope(PyMonitoringState *state_array, uint64_t *version,
                const uint8_t *event_types, Py_ssize_t length)
{
    return PyMonitoring_EnterScope(state_array, version, event_types, length);
}

int
abi3_ExitScope(void)
{
    return PyMonitoring_ExitScope();
}

int
abi3_FireLineEvent(PyMonitoringState *state, PyObject *codelike,
                   int32_t offset, int lineno)
{
    return PyMonitoring_FireLineEvent(state, codelike, offset, lineno);
}

PyObject *
abi3_Vectorcall(PyMonitoringState *call_state,
                PyMonitoringState *c_return_state,
                PyMonitoringState *c_raise_state, PyObject *codelike,
                int32_t offset, PyObject *callable, PyObject *const *args,
                size_t nargsf, PyObject *kwnames)
{
    return PyMonitoring_Vectorcall(call_state, c_return_state, c_raise_state,
                                   codelike, offset, callable, args, nargsf,
                                   kwnames);
}

int
abi3_SetFrameNamespaces(PyMonitoringState *state, PyObject *codelike,
                        PyObject *globals, PyObject *locals)
{
    return PyMonitoring_SetFrameNamespaces(state, codelike, globals, locals);
}

int
abi3_AddTraceback(PyObject *codelike, int32_t offset, int lineno)
{
    return PyMonitoring_AddTraceback(codelike, offset, lineno);
}

PyObject *
abi3_NewWithLocations(PyObject *filename, PyObject *name, PyObject *qualname,
                      int firstlineno, const PyCodeLocation *locations,
                      Py_ssize_t num_locations)
{
    return PyCode_NewWithLocations(filename, name, qualname, firstlineno,
                                   locations, num_locations);
}

/* run(codelike): PY_START, LINE 1 and PY_RETURN. */
static PyObject *
run(PyObject *Py_UNUSED(module), PyObject *codelike)
{
    enum { START, LINE, RETURN, NUMBER };
    static const uint8_t types[] = {
        PY_MONITORING_EVENT_PY_START, PY_MONITORING_EVENT_LINE,
        PY_MONITORING_EVENT_PY_RETURN,
    };
    PyMonitoringState states[NUMBER];
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(states, &version, types, NUMBER);
    err |= PyMonitoring_FirePyStartEvent(&states[START], codelike, 0);
    err |= PyMonitoring_FireLineEvent(&states[LINE], codelike, 0, 1);
    err |= PyMonitoring_FirePyReturnEvent(&states[RETURN], codelike, 0,
                                          Py_None);
    err |= PyMonitoring_ExitScope();
    return err ? NULL : Py_NewRef(Py_None);
}

static PyObject *
sends_events(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(PyMonitoringCompat_SendsEvents());
}

static PyMethodDef methods[] = {
    {"run", run, METH_O, NULL},
    {"sends_events", sends_events, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef abi3_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_monitoring_abi3",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__monitoring_abi3(void)
{
    return PyModuleDef_Init(&abi3_module);
}
