/* The module _monitoring_cost: what a producer pays while nobody listens.
   Each function runs the same work n times: alone, with states that live on,
   and with states on the C stack. */

#include <Python.h>

static const uint8_t event_types[] = {
    PY_MONITORING_EVENT_PY_START, PY_MONITORING_EVENT_PY_RETURN,
    PY_MONITORING_EVENT_LINE, PY_MONITORING_EVENT_PY_UNWIND,
    PY_MONITORING_EVENT_RAISE, PY_MONITORING_EVENT_RERAISE,
    PY_MONITORING_EVENT_EXCEPTION_HANDLED,
};
enum { NUMBER = sizeof(event_types), LINES = 8 };

static volatile long work;

/* None is inlined: the loop that repeats them costs each the same. */
__attribute__((noinline)) static int
bare(void)
{
    for (int line = 0; line < LINES; line++) {
        work++;
    }
    return 0;
}

static int
scope(PyMonitoringState *states, uint64_t *version)
{
    int err = PyMonitoring_EnterScope(states, version, event_types, NUMBER);
    err |= PyMonitoring_FirePyStartEvent(&states[0], Py_None, 0);
    for (int line = 0; line < LINES; line++) {
        work++;
        err |= PyMonitoring_FireLineEvent(&states[2], Py_None, line, line);
    }
    err |= PyMonitoring_FirePyReturnEvent(&states[1], Py_None, 0, Py_None);
    return err | PyMonitoring_ExitScope();
}

__attribute__((noinline)) static int
kept(void)
{
    static PyMonitoringState states[NUMBER];
    static uint64_t version;
    return scope(states, &version);
}

__attribute__((noinline)) static int
fresh(void)
{
    PyMonitoringState states[NUMBER];
    uint64_t version = 0;
    return scope(states, &version);
}

static PyObject *
repeat(int (*function)(void), PyObject *number)
{
    int err = 0;
    for (long n = PyLong_AsLong(number); n > 0; n--) {
        err |= function();
    }
    return err ? NULL : Py_NewRef(Py_None);
}

#define METHOD(NAME) \
    static PyObject * \
    run_ ## NAME(PyObject *Py_UNUSED(module), PyObject *number) \
    { \
        return repeat(NAME, number); \
    }

METHOD(bare)
METHOD(kept)
METHOD(fresh)

static PyMethodDef methods[] = {
    {"bare", run_bare, METH_O, NULL},
    {"kept", run_kept, METH_O, NULL},
    {"fresh", run_fresh, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef cost_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_monitoring_cost",
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__monitoring_cost(void)
{
    return PyModule_Create(&cost_module);
}
