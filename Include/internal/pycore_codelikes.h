#ifndef Py_INTERNAL_CODELIKES_H
#define Py_INTERNAL_CODELIKES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_instruments.h"   // PY_MONITORING_TOOL_IDS
#include "pycore_lock.h"          // PyMutex
#include "pycore_pyatomic_ft_wrappers.h"

/* What is known of single code-likes: what monitoring tools chose, the
   locations that they disabled, and local events on what has no bytecode; and
   the code object that stands for one in frames.  It never keeps a code-like
   alive, and ends when the code-like dies.

   All functions need an attached thread state of the interpreter.  Sets of
   tools are bit masks, tool 0 being bit 0. */

/* Hash tables, with power-of-two sizes and linear probing, that are read
   without a lock.  Empty slots are 0. */

/* The locations that are disabled for one code-like: keys and, in the low 8
   bits, the tools.  A table that grows is replaced, and freed when no thread
   can look at it any more. */
struct _Py_location_table {
    size_t mask;                  // the number of slots less 1
    unsigned long long slots[1];
};

/* What is known of a code-like.  Its address can be used again when it died:
   only the reference says whether this is still about the object there. */
struct _Py_codelike {
    PyObject *address;
    PyWeakReference *ref;
    struct _Py_location_table *locations;
    union {
        size_t num_locations;
        struct _Py_codelike *next_dropped;
    };
    PyObject *code;               // what frames have for f_code, or NULL
    uint8_t local_tools[_PY_MONITORING_LOCAL_EVENTS];
};

/* By address.  Entries are added in place; they are dropped, and the table
   replaced, while the world is stopped. */
struct _Py_codelike_table {
    size_t mask;                  // the number of slots less 1
    struct _Py_codelike *slots[1];
};

struct _Py_codelikes_state {
    PyMutex mutex;                // for changes, on free-threaded builds
    struct _Py_codelike_table *table;   // NULL before the first use
    size_t num_codelikes;         // in the table, dead ones included
    /* How often each tool was freed and taken since; odd after it was freed,
       until it is taken again. */
    uint32_t ownership[PY_MONITORING_TOOL_IDS];
    /* Whether any location is disabled for an event. */
    uint8_t has_disabled[_PY_MONITORING_LOCAL_EVENTS];
};

/* Of the odd multipliers of 31 bits that were tried, which an instruction can
   hold, these need the fewest probes: the first for 10 to 100,000 addresses at
   each distance from 48 to 512 bytes, 0.35 on average at the worst; the second
   for lines in a row, strides, and several events at each of them. */

static inline size_t
_Py_codelike_address_hash(PyObject *address)
{
    return (size_t)((uint64_t)(uintptr_t)address * 0x58805339 >> 20);
}

static inline uint64_t
_Py_codelike_location_key(int event, int location)
{
    return (uint64_t)(uint32_t)location << 12 | (uint64_t)(event + 1) << 8;
}

static inline int
_Py_codelike_key_event(uint64_t key)
{
    return (int)(key >> 8 & 0xf) - 1;
}

static inline size_t
_Py_codelike_location_hash(uint64_t key)
{
    return (size_t)(key * 0x1b01ce21 >> 26);
}

/* Return what is known of the code-like, or NULL.  There must be a table. */
static inline struct _Py_codelike *
_Py_codelike_find(struct _Py_codelikes_state *state, PyObject *codelike)
{
    struct _Py_codelike_table *table = state->table;
    size_t mask = table->mask;
    size_t i = _Py_codelike_address_hash(codelike) & mask;
    for (;; i = (i + 1) & mask) {
        struct _Py_codelike *found =
            FT_ATOMIC_LOAD_PTR_ACQUIRE(table->slots[i]);
        if (found == NULL) {
            return NULL;
        }
        if (found->address == codelike
            && FT_ATOMIC_LOAD_PTR_RELAXED(found->ref->wr_object) == codelike)
        {
            return found;
        }
    }
}

/* Return the tools for which the location, an offset or for LINE a line, is
   disabled.  Some location must have been. */
static inline uint8_t
_Py_codelike_disabled_tools(struct _Py_codelikes_state *state,
                            PyObject *codelike, int event, int location)
{
    struct _Py_codelike *entry = _Py_codelike_find(state, codelike);
    if (entry == NULL) {
        return 0;
    }
    struct _Py_location_table *table =
        FT_ATOMIC_LOAD_PTR_ACQUIRE(entry->locations);
    uint64_t key = _Py_codelike_location_key(event, location);
    size_t mask = table->mask;
    size_t i = _Py_codelike_location_hash(key) & mask;
    for (;; i = (i + 1) & mask) {
        /* The tools, where it is the key's. */
        uint64_t found = FT_ATOMIC_LOAD_ULLONG_RELAXED(table->slots[i]) ^ key;
        if (found <= UINT8_MAX) {
            return (uint8_t)found;
        }
        if (found == key) {
            return 0;
        }
    }
}

/* Return the tools that have the local event on the code-like. */
static inline uint8_t
_Py_codelike_local_tools(struct _Py_codelikes_state *state,
                         PyObject *codelike, int event)
{
    struct _Py_codelike *found = state->table != NULL
                                 ? _Py_codelike_find(state, codelike) : NULL;
    return found == NULL
           ? 0 : FT_ATOMIC_LOAD_UINT8_RELAXED(found->local_tools[event]);
}

/* Return a number for the tool and for who owns it now. */
static inline uint32_t
_Py_codelikes_owner(struct _Py_codelikes_state *state, int tool)
{
    return FT_ATOMIC_LOAD_UINT32_RELAXED(state->ownership[tool])
           * PY_MONITORING_TOOL_IDS + tool;
}

static inline int
_Py_codelikes_tool(uint32_t owner)
{
    return owner % PY_MONITORING_TOOL_IDS;
}

/* Return whether the tool still has the owner, who did not free it. */
static inline bool
_Py_codelikes_is_owner(struct _Py_codelikes_state *state, uint32_t owner)
{
    return owner == _Py_codelikes_owner(state, _Py_codelikes_tool(owner))
           && owner / PY_MONITORING_TOOL_IDS % 2 == 0;
}

/* Disable the location for a tool if it still has the owner.  Return 0 if the
   code-like cannot be weakly referenced, -1 with MemoryError set, and
   otherwise 1. */
extern int _Py_codelike_disable(
    PyInterpreterState *interp, PyObject *codelike, int event, int location,
    uint32_t owner);

/* Set the local events of a tool on the code-like if it still has the owner.
   Return 0 on success, and -1 with an exception set, TypeError if it cannot be
   weakly referenced; nothing is changed then. */
extern int _Py_codelike_set_local_events(
    PyInterpreterState *interp, PyObject *codelike, uint32_t owner,
    uint32_t events);

extern uint32_t _Py_codelike_get_local_events(
    PyInterpreterState *interp, PyObject *codelike, int tool);

/* Return the code object that frames of the code-like have, a new reference,
   or NULL without an exception if there is none yet. */
extern PyObject *_Py_codelike_get_code(PyInterpreterState *interp,
                                       PyObject *codelike);

/* Set it, unless there is one.  Return that which is there then, a new
   reference, or NULL with an exception set. */
extern PyObject *_Py_codelike_set_code(PyInterpreterState *interp,
                                       PyObject *codelike, PyObject *code);

/* Forget all disabled locations. */
extern void _Py_codelikes_restart(PyInterpreterState *interp);

/* The tool gets an owner. */
extern void _Py_codelikes_use_tool(PyInterpreterState *interp, int tool);

/* The tool loses its owner: forget its disabled locations and its local
   events. */
extern void _Py_codelikes_free_tool(PyInterpreterState *interp, int tool);

/* Forget everything. */
extern void _Py_codelikes_clear(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_CODELIKES_H */
