/* Locations in code that is not bytecode: code objects that are made of them,
   and what an offset in any code-like means. */

#include "Python.h"
#include "opcode.h"               // RESUME
#include "pycore_code.h"          // struct _PyCodeConstructor
#include "pycore_codelocations.h"
#include "pycore_global_strings.h" // _Py_STR()
#include "pycore_long.h"          // _PyLong_GetOne()
#include "pycore_opcode_utils.h"  // RESUME_AT_FUNC_START
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_structseq.h"     // _PyStructSequence_InitBuiltin()

/*[clinic input]
module monitoring
[clinic start generated code]*/
/*[clinic end generated code: output=da39a3ee5e6b4b0d input=37257f5987a360cf]*/

#define UNKNOWN ((PyCodeLocation){-1, -1, -1, -1})

/* ------ Code objects made of locations ------ */

/* A first byte, and four numbers of 32 bits in groups of six. */
#define MAX_ENTRY_SIZE (1 + 4 * 6)
#define MAX_ENTRY_UNITS 8

/* What stands after the units that have locations.  There is one of these at
   least that can be run, so that running the code ends with an exception. */
#define NUM_TRAILING_UNITS 2

/* The number of a unit, times the size of one, is the offset. */
#define MAX_LOCATIONS \
    ((Py_ssize_t)(INT_MAX / sizeof(_Py_CODEUNIT)) - NUM_TRAILING_UNITS - 1)

static int
check_name(PyObject *name, const char *what)
{
    if (name == NULL) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not NULL", what);
        return -1;
    }
    if (!PyUnicode_CheckExact(name)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %T", what, name);
        return -1;
    }
    return 0;
}

/* Return what is wrong with a location, or NULL. */
static const char *
find_problem(const PyCodeLocation *at)
{
    if (at->lineno < -1 || at->lineno == 0) {
        return "lineno must be positive, or -1";
    }
    if (at->end_lineno < -1 || at->end_lineno == 0) {
        return "end_lineno must be positive, or -1";
    }
    if (at->col_offset < -1 || at->end_col_offset < -1) {
        return "col_offset and end_col_offset must not be negative, or be -1";
    }
    if (at->lineno < 0) {
        return memcmp(at, &UNKNOWN, sizeof(UNKNOWN)) == 0
               ? NULL : "without lineno, all must be -1";
    }
    if (at->end_lineno >= 0 && at->end_lineno < at->lineno) {
        return "end_lineno is before lineno";
    }
    if (at->end_lineno <= at->lineno && at->end_col_offset >= 0
        && at->end_col_offset < at->col_offset)
    {
        return "end_col_offset is before col_offset";
    }
    return NULL;
}

/* Write the entry of the location table for code units at one location, and
   return its size.  *line is the last line in the table so far. */
static int
write_entry(uint8_t *entry, const PyCodeLocation *at, int units, int *line)
{
    if (at->lineno < 0) {
        return write_location_entry_start(
            entry, PY_CODE_LOCATION_INFO_NONE, units);
    }
    int delta = at->lineno - *line;
    int lines = at->end_lineno < 0 ? 0 : at->end_lineno - at->lineno;
    int column = at->col_offset;
    int end_column = at->end_col_offset;
    *line = at->lineno;
    int size;
    if (lines == 0 && column < 0 && end_column < 0) {
        size = write_location_entry_start(
            entry, PY_CODE_LOCATION_INFO_NO_COLUMNS, units);
        return size + write_signed_varint(entry + size, delta);
    }
    if (lines == 0 && column >= 0 && end_column >= 0) {
        if (delta == 0 && column < 80 && end_column - column < 16) {
            size = write_location_entry_start(
                entry, PY_CODE_LOCATION_INFO_SHORT0 + column / 8, units);
            entry[size] = (column % 8) << 4 | (end_column - column);
            return size + 1;
        }
        /* A byte with the highest bit would begin another entry. */
        if (0 <= delta && delta < 3 && end_column < 128) {
            size = write_location_entry_start(
                entry, PY_CODE_LOCATION_INFO_ONE_LINE0 + delta, units);
            entry[size] = column;
            entry[size + 1] = end_column;
            return size + 2;
        }
    }
    size = write_location_entry_start(
        entry, PY_CODE_LOCATION_INFO_LONG, units);
    size += write_signed_varint(entry + size, delta);
    size += write_varint(entry + size, lines);
    size += write_varint(entry + size, (unsigned int)column + 1);
    return size + write_varint(entry + size, (unsigned int)end_column + 1);
}

/* Write the location table and return its size; with table NULL only that. */
static size_t
write_table(uint8_t *table, const PyCodeLocation *locations,
            Py_ssize_t num_locations, int trailing_units, int line)
{
    uint8_t unused[MAX_ENTRY_SIZE];
    size_t size = 0;
    for (Py_ssize_t i = 0; i < num_locations && size < PY_SSIZE_T_MAX; ) {
        int units = 1;
        while (units < MAX_ENTRY_UNITS && i + units < num_locations
               && memcmp(&locations[i], &locations[i + units],
                         sizeof(PyCodeLocation)) == 0)
        {
            units++;
        }
        size += write_entry(table != NULL ? table + size : unused,
                            &locations[i], units, &line);
        i += units;
    }
    return size + write_entry(table != NULL ? table + size : unused,
                              &UNKNOWN, trailing_units, &line);
}

static PyObject *
new_table(const PyCodeLocation *locations, Py_ssize_t num_locations,
          int trailing_units, int firstlineno)
{
    size_t size = write_table(NULL, locations, num_locations, trailing_units,
                              firstlineno);
    if (size > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    PyObject *table = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (table != NULL) {
        (void)write_table((uint8_t *)PyBytes_AS_STRING(table), locations,
                          num_locations, trailing_units, firstlineno);
    }
    return table;
}

/* Without RESUME, a frame never counts as one that has begun. */
static PyObject *
new_bytecode(Py_ssize_t num_units)
{
    assert(num_units > NUM_TRAILING_UNITS);
    PyObject *bytecode = PyBytes_FromStringAndSize(
        NULL, num_units * sizeof(_Py_CODEUNIT));
    if (bytecode == NULL) {
        return NULL;
    }
    _Py_CODEUNIT *code = (_Py_CODEUNIT *)PyBytes_AS_STRING(bytecode);
    code[0] = (_Py_CODEUNIT){.op.code = RESUME,
                             .op.arg = RESUME_AT_FUNC_START};
    for (Py_ssize_t i = 1; i < num_units - NUM_TRAILING_UNITS; i++) {
        code[i] = (_Py_CODEUNIT){.op.code = NOP};
    }
    code[num_units - 2] = (_Py_CODEUNIT){.op.code = LOAD_ASSERTION_ERROR};
    code[num_units - 1] = (_Py_CODEUNIT){.op.code = RAISE_VARARGS,
                                         .op.arg = 1};
    return bytecode;
}

PyObject *
PyCode_NewWithLocations(PyObject *filename, PyObject *name, PyObject *qualname,
                        int firstlineno, const PyCodeLocation *locations,
                        Py_ssize_t num_locations)
{
    if (qualname == NULL) {
        qualname = name;
    }
    if (check_name(filename, "filename") < 0 || check_name(name, "name") < 0
        || check_name(qualname, "qualname") < 0)
    {
        return NULL;
    }
    if (firstlineno < 0) {
        PyErr_SetString(PyExc_ValueError, "firstlineno must not be negative");
        return NULL;
    }
    if (num_locations < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "num_locations must not be negative");
        return NULL;
    }
    if (num_locations > MAX_LOCATIONS) {
        PyErr_Format(PyExc_OverflowError,
                     "%zd locations are too many, %zd are possible",
                     num_locations, MAX_LOCATIONS);
        return NULL;
    }
    if (locations == NULL && num_locations > 0) {
        PyErr_SetString(PyExc_ValueError, "locations must not be NULL");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < num_locations; i++) {
        const char *problem = find_problem(&locations[i]);
        if (problem != NULL) {
            PyErr_Format(PyExc_ValueError, "location %zd: %s", i, problem);
            return NULL;
        }
    }

    /* RESUME is at the first location, if there is one. */
    int trailing_units = NUM_TRAILING_UNITS + (num_locations == 0);
    PyObject *empty_tuple = PyTuple_New(0);
    PyObject *empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *bytecode = new_bytecode(num_locations + trailing_units);
    PyObject *table = NULL;
    PyObject *code = NULL;
    if (empty_tuple == NULL || empty_bytes == NULL || bytecode == NULL) {
        goto done;
    }
    table = new_table(locations, num_locations, trailing_units, firstlineno);
    if (table == NULL) {
        goto done;
    }
    struct _PyCodeConstructor con = {
        .filename = filename,
        .name = name,
        .qualname = qualname,
        .code = bytecode,
        .firstlineno = firstlineno,
        .linetable = table,
        .consts = empty_tuple,
        .names = empty_tuple,
        .localsplusnames = empty_tuple,
        .localspluskinds = empty_bytes,
        .exceptiontable = empty_bytes,
        .stacksize = 1,
    };
    code = (PyObject *)_PyCode_New(&con);
done:
    Py_XDECREF(empty_tuple);
    Py_XDECREF(empty_bytes);
    Py_XDECREF(bytecode);
    Py_XDECREF(table);
    return code;
}

/* ------ What an offset means ------ */

static int
check_even(int offset)
{
    if (offset % sizeof(_Py_CODEUNIT) != 0) {
        PyErr_Format(PyExc_ValueError,
                     "offset %d is odd, those of locations are even", offset);
        return -1;
    }
    return 0;
}

static void
set_beyond_last(int offset)
{
    PyErr_Format(PyExc_ValueError, "offset %d is beyond the last location",
                 offset);
}

/* Look a location up in the table of a code object.  One that code.replace()
   made can have a table which ends before its bytecode does. */
static int
location_of_code(PyCodeObject *code, int offset, PyCodeLocation *location)
{
    if (check_even(offset) < 0) {
        return -1;
    }
    if (offset >= _PyCode_NBYTES(code)) {
        set_beyond_last(offset);
        return -1;
    }
    const uint8_t *table = (uint8_t *)PyBytes_AS_STRING(code->co_linetable);
    const uint8_t *end = table + PyBytes_GET_SIZE(code->co_linetable);
    int unit = offset / (int)sizeof(_Py_CODEUNIT);
    for (; table < end && unit >= 0; table++) {
        if (*table & 128) {
            unit -= (*table & 7) + 1;
        }
    }
    if (unit < 0) {
        PyCode_Addr2Location(code, offset, &location->lineno,
                             &location->col_offset, &location->end_lineno,
                             &location->end_col_offset);
    }
    return 0;
}

/* Store the four numbers in a tuple from an index on. */
static int
read_location(PyObject *items, Py_ssize_t first, const char *method,
              PyCodeLocation *location)
{
    int *const numbers[] = {
        &location->lineno, &location->end_lineno,
        &location->col_offset, &location->end_col_offset,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, first + i);
        if (item == Py_None) {
            continue;
        }
        if (!PyLong_Check(item)) {
            PyErr_Format(PyExc_TypeError,
                         "lines and columns of %s() must be int or None, "
                         "not %T", method, item);
            return -1;
        }
        int value = PyLong_AsInt(item);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (value < -1) {
            PyErr_Format(PyExc_ValueError,
                         "lines and columns of %s() must not be negative, "
                         "not %d", method, value);
            return -1;
        }
        *numbers[i] = value;
    }
    return 0;
}

static int
check_tuple(PyObject *obj, Py_ssize_t size, const char *method)
{
    if (PyTuple_Check(obj) && PyTuple_GET_SIZE(obj) == size) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() must give tuples of %zd items",
                 method, size);
    return -1;
}

/* Return a name as an exact str. */
static PyObject *
read_name(PyObject *name, const char *what)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %T", what, name);
        return NULL;
    }
    return PyUnicode_FromObject(name);
}

/* Return the file's name. */
static PyObject *
read_co_location(PyObject *co_location, int offset, PyCodeLocation *location)
{
    if (check_even(offset) < 0) {
        return NULL;
    }
    PyObject *found = PyObject_CallFunction(co_location, "i", offset);
    if (found == NULL) {
        return NULL;
    }
    PyObject *filename = NULL;
    if (check_tuple(found, 5, "co_location") == 0
        && read_location(found, 1, "co_location", location) == 0)
    {
        filename = read_name(PyTuple_GET_ITEM(found, 0),
                             "the file of co_location()");
    }
    Py_DECREF(found);
    return filename;
}

static int
read_co_positions(PyObject *co_positions, int offset,
                  PyCodeLocation *location)
{
    if (check_even(offset) < 0) {
        return -1;
    }
    PyObject *positions = PyObject_CallNoArgs(co_positions);
    if (positions == NULL) {
        return -1;
    }
    PyObject *iterator = PyObject_GetIter(positions);
    Py_DECREF(positions);
    if (iterator == NULL) {
        return -1;
    }
    PyObject *found = NULL;
    for (Py_ssize_t i = 0; i <= offset; i += sizeof(_Py_CODEUNIT)) {
        Py_XSETREF(found, PyIter_Next(iterator));
        if (found == NULL) {
            if (!PyErr_Occurred()) {
                set_beyond_last(offset);
            }
            break;
        }
    }
    int err = -1;
    if (found != NULL && check_tuple(found, 4, "co_positions") == 0) {
        err = read_location(found, 0, "co_positions", location);
    }
    Py_XDECREF(found);
    Py_DECREF(iterator);
    return err;
}

/* Store an attribute of a code-like that must have it.  Return -1 with an
   exception set if it has not. */
static int
get_attribute(PyObject *codelike, const char *name, PyObject **value)
{
    int found = PyObject_GetOptionalAttrString(codelike, name, value);
    if (found == 0) {
        PyErr_Format(PyExc_TypeError,
                     "code must be a code object, or an object with "
                     "co_location(), or with co_filename and co_positions() "
                     "or co_firstlineno; %T has no %s", codelike, name);
    }
    return found > 0 ? 0 : -1;
}

/* Return the file's name. */
static PyObject *
location_of_object(PyObject *codelike, int offset, PyCodeLocation *location)
{
    PyObject *attribute;
    int found = PyObject_GetOptionalAttrString(codelike, "co_location",
                                               &attribute);
    if (found < 0) {
        return NULL;
    }
    if (found) {
        PyObject *filename = read_co_location(attribute, offset, location);
        Py_DECREF(attribute);
        return filename;
    }
    if (get_attribute(codelike, "co_filename", &attribute) < 0) {
        return NULL;
    }
    PyObject *filename = read_name(attribute, "co_filename");
    Py_DECREF(attribute);
    if (filename == NULL) {
        return NULL;
    }
    int err;
    found = PyObject_GetOptionalAttrString(codelike, "co_positions",
                                           &attribute);
    if (found > 0) {
        err = read_co_positions(attribute, offset, location);
        Py_DECREF(attribute);
    }
    else if (found == 0) {
        err = get_attribute(codelike, "co_firstlineno", &attribute);
        Py_XDECREF(attribute);
    }
    else {
        err = -1;
    }
    if (err < 0) {
        Py_CLEAR(filename);
    }
    return filename;
}

int
_PyCodeLike_GetLocation(PyObject *codelike, int offset, PyObject **filename,
                        PyCodeLocation *location)
{
    *filename = NULL;
    *location = UNKNOWN;
    if (offset < 0) {
        PyErr_SetString(PyExc_ValueError, "offset must not be negative");
        return -1;
    }
    if (!PyCode_Check(codelike)) {
        *filename = location_of_object(codelike, offset, location);
    }
    else if (location_of_code((PyCodeObject *)codelike, offset,
                              location) == 0)
    {
        *filename = Py_NewRef(((PyCodeObject *)codelike)->co_filename);
    }
    return *filename != NULL ? 0 : -1;
}

/* ------ Code objects for code-likes that are none ------ */

/* Return a name that a code-like has, as an exact str, or the default. */
static PyObject *
get_name(PyObject *codelike, const char *attribute, PyObject *otherwise)
{
    PyObject *value;
    int found = PyObject_GetOptionalAttrString(codelike, attribute, &value);
    if (found <= 0) {
        return found < 0 ? NULL : Py_NewRef(otherwise);
    }
    PyObject *name = read_name(value, attribute);
    Py_DECREF(value);
    return name;
}

/* Return what co_firstlineno says, 1 without one, or -1 with an exception
   set. */
static int
get_firstlineno(PyObject *codelike)
{
    PyObject *value;
    int found = PyObject_GetOptionalAttrString(codelike, "co_firstlineno",
                                               &value);
    if (found <= 0) {
        return found < 0 ? -1 : 1;
    }
    int lineno = PyLong_AsInt(value);
    Py_DECREF(value);
    return lineno < 0 && !PyErr_Occurred() ? 0 : lineno;
}

/* Bytecode has locations that PyCode_NewWithLocations() refuses, such as line 0
   of a module's first unit: keep their line at most. */
static void
make_valid(PyCodeLocation *at)
{
    if (find_problem(at) != NULL) {
        int line = at->lineno > 0 ? at->lineno : -1;
        *at = (PyCodeLocation){line, line, -1, -1};
    }
}

/* Store what co_positions() yields, for PyMem_Free(). */
static int
read_all_positions(PyObject *codelike, PyCodeLocation **locations,
                   Py_ssize_t *num_locations)
{
    PyObject *co_positions;
    int found = PyObject_GetOptionalAttrString(codelike, "co_positions",
                                               &co_positions);
    if (found <= 0) {
        return found;
    }
    PyObject *positions = PyObject_CallNoArgs(co_positions);
    Py_DECREF(co_positions);
    PyObject *list = positions == NULL ? NULL : PySequence_List(positions);
    Py_XDECREF(positions);
    if (list == NULL) {
        return -1;
    }
    int err = -1;
    *num_locations = PyList_GET_SIZE(list);
    *locations = PyMem_New(PyCodeLocation, *num_locations);
    if (*locations == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < *num_locations; i++) {
        PyObject *items = PyList_GET_ITEM(list, i);
        PyCodeLocation *at = &(*locations)[i];
        *at = UNKNOWN;
        if (check_tuple(items, 4, "co_positions") < 0
            || read_location(items, 0, "co_positions", at) < 0)
        {
            goto done;
        }
        make_valid(at);
    }
    err = 0;
done:
    Py_DECREF(list);
    return err;
}

PyObject *
_PyCodeLike_NewCode(PyObject *codelike, PyObject *filename,
                    const PyCodeLocation *location)
{
    PyObject *code = NULL, *qualname = NULL;
    PyCodeLocation *locations = NULL;
    PyCodeLocation only = UNKNOWN;
    Py_ssize_t num_locations = 1;
    PyObject *name = get_name(codelike, "co_name", &_Py_STR(anon_unknown));
    if (name == NULL) {
        return NULL;
    }
    filename = filename != NULL ? Py_NewRef(filename)
        : get_name(codelike, "co_filename", &_Py_STR(anon_unknown));
    if (filename == NULL) {
        goto done;
    }
    qualname = get_name(codelike, "co_qualname", name);
    if (qualname == NULL) {
        goto done;
    }
    int firstlineno = get_firstlineno(codelike);
    if (firstlineno < 0) {
        goto done;
    }
    if (location != NULL) {
        only = *location;
        make_valid(&only);
    }
    else {
        num_locations = 0;
        if (read_all_positions(codelike, &locations, &num_locations) < 0) {
            goto done;
        }
    }
    code = PyCode_NewWithLocations(
        filename, name, qualname, firstlineno,
        location != NULL ? &only : locations, num_locations);
done:
    PyMem_Free(locations);
    Py_XDECREF(qualname);
    Py_XDECREF(filename);
    Py_DECREF(name);
    return code;
}

/* ------ sys.monitoring.get_location() ------ */

PyDoc_STRVAR(location_doc,
"What an offset in a code-like means: a file, and a range of lines and\n\
columns there, as co_positions() has them.  What is unknown is None.");

static PyTypeObject LocationType;

static PyStructSequence_Field location_fields[] = {
    {"filename", "the name of the file"},
    {"lineno", "the line where it begins"},
    {"end_lineno", "the line where it ends"},
    {"col_offset", "the column where it begins, in bytes of UTF-8, from 0"},
    {"end_col_offset", "the column where it ends"},
    {NULL}
};

static PyStructSequence_Desc location_desc = {
    "sys.monitoring.Location",
    location_doc,
    location_fields,
    5
};

#include "clinic/codelocations.c.h"

/*[clinic input]
monitoring.get_location

    code: object
    offset: object
    /

Return what an offset in a code-like means.

The result is a named tuple (filename, lineno, end_lineno, col_offset,
end_col_offset), with None for what is unknown.
[clinic start generated code]*/

static PyObject *
monitoring_get_location_impl(PyObject *module, PyObject *code,
                             PyObject *offset)
/*[clinic end generated code: output=3f99b515601467a2 input=faff6487dafd6f0c]*/
{
    int overflow;
    long value = PyLong_AsLongAndOverflow(offset, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (overflow > 0 || value > INT_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "offset %S is beyond the last location", offset);
        return NULL;
    }
    PyObject *filename;
    PyCodeLocation location;
    if (_PyCodeLike_GetLocation(code, value < 0 ? -1 : (int)value, &filename,
                                &location) < 0)
    {
        return NULL;
    }
    PyObject *result = PyStructSequence_New(&LocationType);
    if (result == NULL) {
        Py_DECREF(filename);
        return NULL;
    }
    PyStructSequence_SET_ITEM(result, 0, filename);
    const int numbers[] = {
        location.lineno, location.end_lineno,
        location.col_offset, location.end_col_offset,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        PyObject *number = numbers[i] < 0 ? Py_NewRef(Py_None)
                                          : PyLong_FromLong(numbers[i]);
        if (number == NULL) {
            Py_DECREF(result);
            return NULL;
        }
        PyStructSequence_SET_ITEM(result, i + 1, number);
    }
    return result;
}

static PyMethodDef methods[] = {
    MONITORING_GET_LOCATION_METHODDEF
    {NULL, NULL}  // sentinel
};

int
_PyCodeLocations_AddToModule(PyObject *module)
{
    if (_PyStructSequence_InitBuiltin(_PyInterpreterState_GET(), &LocationType,
                                      &location_desc) < 0)
    {
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}

void
_PyCodeLocations_FiniTypes(PyInterpreterState *interp)
{
    _PyStructSequence_FiniBuiltin(interp, &LocationType);
}
