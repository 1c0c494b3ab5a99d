/*[clinic input]
preserve
[clinic start generated code]*/

#include "pycore_modsupport.h"    // _PyArg_CheckPositional()

PyDoc_STRVAR(monitoring_get_location__doc__,
"get_location($module, code, offset, /)\n"
"--\n"
"\n"
"Return what an offset in a code-like means.\n"
"\n"
"The result is a named tuple (filename, lineno, end_lineno, col_offset,\n"
"end_col_offset), with None for what is unknown.");

#define MONITORING_GET_LOCATION_METHODDEF    \
    {"get_location", _PyCFunction_CAST(monitoring_get_location), METH_FASTCALL, monitoring_get_location__doc__},

static PyObject *
monitoring_get_location_impl(PyObject *module, PyObject *code,
                             PyObject *offset);

static PyObject *
monitoring_get_location(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *return_value = NULL;
    PyObject *code;
    PyObject *offset;

    if (!_PyArg_CheckPositional("get_location", nargs, 2, 2)) {
        goto exit;
    }
    code = args[0];
    offset = args[1];
    return_value = monitoring_get_location_impl(module, code, offset);

exit:
    return return_value;
}
/*[clinic end generated code: output=7be43ae7a55fbfa8 input=a9049054013a1b77]*/
