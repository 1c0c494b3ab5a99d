/* What the test layer of the API takes from CPython's Modules/_testcapi, for a
   module of its own that any CPython from 3.12 on can load. */

#include <Python.h>

#if PY_VERSION_HEX < 0x030D0000
#define PyLong_AsInt _PyLong_AsInt

static inline int
PyModule_Add(PyObject *module, const char *name, PyObject *value)
{
    int err = PyModule_AddObjectRef(module, name, value);
    Py_XDECREF(value);
    return err;
}
#endif

#define NULLABLE(OBJECT) do { \
        if ((OBJECT) == Py_None) { \
            (OBJECT) = NULL; \
        } \
    } while (0)
#define UNINITIALIZED_INT -7

int _PyTestCapi_Init_Monitoring(PyObject *module);
