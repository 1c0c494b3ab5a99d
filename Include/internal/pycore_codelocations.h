#ifndef Py_INTERNAL_CODELOCATIONS_H
#define Py_INTERNAL_CODELOCATIONS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Store what an offset in a code-like means: a new reference to the name of
   the file, an exact str, and the location there, -1 for what is unknown.

   Return 0, or -1 with an exception set and *filename NULL: TypeError for an
   object that is no code-like, or whose methods return what they must not;
   ValueError for an offset that is negative, odd or beyond the last location;
   or what those methods raise.

   Code objects look it up in their location table.  Other objects are asked
   for co_location(), then for co_positions(); where there is neither, but
   co_firstlineno, only the file is known.  The caller keeps the code-like
   alive; no exception may be set. */
extern int
_PyCodeLike_GetLocation(PyObject *codelike, int offset, PyObject **filename,
                        PyCodeLocation *location);

/* Return a code object like an object that is none, a new reference, or NULL
   with an exception set: TypeError for attributes of a wrong type, or what it
   raises.  It is in the file and has the only location that are given; with NULL,
   what the object itself says.  No exception may be set. */
extern PyObject *
_PyCodeLike_NewCode(PyObject *codelike, PyObject *filename,
                    const PyCodeLocation *location);

/* Add get_location() to the module sys.monitoring.  Return 0, or -1 with an
   exception set. */
extern int _PyCodeLocations_AddToModule(PyObject *module);
extern void _PyCodeLocations_FiniTypes(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_CODELOCATIONS_H */
