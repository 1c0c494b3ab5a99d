/* What monitoring tools chose for single code-likes. */

#include "Python.h"
#include "pycore_codelikes.h"
#include "pycore_interp.h"        // PyInterpreterState.codelikes
#include "pycore_object.h"        // _PyType_SUPPORTS_WEAKREFS()
#include "pycore_pyatomic_ft_wrappers.h"
#include "pycore_producers.h"     // _PyMonitoring_UpdateProducers()
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_waiting_calls.h"
#include "pycore_weakref.h"

#ifdef Py_GIL_DISABLED
#  define LOCK(STATE) PyMutex_Lock(&(STATE)->mutex)
#  define UNLOCK(STATE) PyMutex_Unlock(&(STATE)->mutex)
#else
#  define LOCK(STATE) ((void)(STATE))
#  define UNLOCK(STATE) ((void)(STATE))
#endif

typedef struct _Py_codelikes_state codelikes_state;

/* A weak reference, so that what it calls when the code-like dies finds the
   rest at once. */
typedef struct _Py_codelike {
    PyWeakReference ref;
    union {
        PyObject *address;        // borrowed
        struct _Py_codelike *next_removed;
    };
    /* A hash table of location keys and, in the low 8 bits, the tools that
       disabled the location; empty slots are 0. */
    uint64_t *locations;
    size_t num_locations;
    size_t num_slots;             // 0 or a power of two
    uint8_t local_tools[_PY_MONITORING_LOCAL_EVENTS];
    bool watched;                 // calls may wait for it
} codelike_entry;

static uint64_t
spread(uint64_t key)
{
    /* The bits on top depend on all of the key's. */
    return (key * UINT64_C(0x9E3779B97F4A7C15)) >> 32;
}

/* ------ The locations of a code-like ------ */

#define TOOLS_MASK UINT64_C(0xff)

static uint64_t
location_key(int event, int location)
{
    return (uint64_t)(event + 1) << 40 | (uint64_t)(uint32_t)location << 8;
}

/* Return the slot of the key, or the empty one where it belongs. */
static uint64_t *
find_location(codelike_entry *entry, uint64_t key)
{
    size_t mask = entry->num_slots - 1;
    for (size_t i = spread(key >> 8) & mask;; i = (i + 1) & mask) {
        uint64_t *slot = &entry->locations[i];
        if (*slot == 0 || (*slot & ~TOOLS_MASK) == key) {
            return slot;
        }
    }
}

/* Make room for one location.  Return -1 if there is no memory. */
static int
reserve_location(codelike_entry *entry)
{
    if ((entry->num_locations + 1) * 4 <= entry->num_slots * 3) {
        return 0;
    }
    uint64_t *old_locations = entry->locations;
    size_t old_num = entry->num_slots;
    size_t num_slots = old_num ? 2 * old_num : 4;
    uint64_t *locations = PyMem_Calloc(num_slots, sizeof(uint64_t));
    if (locations == NULL) {
        return -1;
    }
    entry->locations = locations;
    entry->num_slots = num_slots;
    for (size_t i = 0; i < old_num; i++) {
        if (old_locations[i] != 0) {
            uint64_t key = old_locations[i] & ~TOOLS_MASK;
            *find_location(entry, key) = old_locations[i];
        }
    }
    PyMem_Free(old_locations);
    return 0;
}

static void
forget_locations(codelike_entry *entry)
{
    PyMem_Free(entry->locations);
    entry->locations = NULL;
    entry->num_locations = entry->num_slots = 0;
}

/* ------ The code-likes of an interpreter ------ */

static size_t
home_slot(codelikes_state *state, PyObject *codelike)
{
    return spread((uint64_t)(uintptr_t)codelike >> 4) & (state->num_slots - 1);
}

static codelike_entry *
find_codelike(codelikes_state *state, PyObject *codelike)
{
    if (state->num_codelikes == 0) {
        return NULL;
    }
    size_t mask = state->num_slots - 1;
    for (size_t i = home_slot(state, codelike);; i = (i + 1) & mask) {
        codelike_entry *entry = state->slots[i];
        if (entry == NULL || entry->address == codelike) {
            return entry;
        }
    }
}

static void
add_to_slots(codelikes_state *state, codelike_entry *entry)
{
    size_t mask = state->num_slots - 1;
    size_t i = home_slot(state, entry->address);
    while (state->slots[i] != NULL) {
        i = (i + 1) & mask;
    }
    state->slots[i] = entry;
}

/* Make room for one code-like.  Return -1 if there is no memory. */
static int
reserve_codelike(codelikes_state *state)
{
    if ((state->num_codelikes + 1) * 3 <= state->num_slots * 2) {
        return 0;
    }
    codelike_entry **old_slots = state->slots;
    size_t old_num = state->num_slots;
    size_t num_slots = old_num ? 2 * old_num : 16;
    codelike_entry **slots = PyMem_Calloc(num_slots, sizeof(*slots));
    if (slots == NULL) {
        return -1;
    }
    state->slots = slots;
    state->num_slots = num_slots;
    for (size_t i = 0; i < old_num; i++) {
        if (old_slots[i] != NULL) {
            add_to_slots(state, old_slots[i]);
        }
    }
    PyMem_Free(old_slots);
    return 0;
}

static void
set_local_tools(codelikes_state *state, codelike_entry *entry, int event,
                uint8_t tools)
{
    uint8_t changed = entry->local_tools[event] ^ tools;
    entry->local_tools[event] = tools;
    uint8_t any = state->local_tools[event];
    for (int tool = 0; changed >> tool; tool++) {
        if (!(changed >> tool & 1)) {
            continue;
        }
        size_t *count = &state->local_counts[event][tool];
        *count += tools >> tool & 1 ? 1 : -1;
        any = *count ? any | 1 << tool : any & ~(1 << tool);
    }
    if (any != state->local_tools[event]) {
        FT_ATOMIC_STORE_UINT8_RELAXED(state->local_tools[event], any);
        state->changed = true;
    }
}

/* Take the entry in a slot out of the table.  The caller releases it when the
   state is unlocked: that may run other weak references' callbacks. */
static codelike_entry *
remove_slot(codelikes_state *state, size_t i)
{
    codelike_entry *entry = state->slots[i];
    size_t mask = state->num_slots - 1;
    state->slots[i] = NULL;
    state->num_codelikes--;
    /* Move up what was pushed away from its home by it. */
    for (size_t j = (i + 1) & mask; state->slots[j] != NULL;
         j = (j + 1) & mask)
    {
        size_t home = home_slot(state, state->slots[j]->address);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            state->slots[i] = state->slots[j];
            state->slots[j] = NULL;
            i = j;
        }
    }
    forget_locations(entry);
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        set_local_tools(state, entry, event, 0);
    }
    if (state->num_codelikes == 0) {
        PyMem_Free(state->slots);
        state->slots = NULL;
        state->num_slots = 0;
    }
    return entry;
}

/* Take the entry out of the table.  Return it, or NULL if it was not there. */
static codelike_entry *
remove_entry(codelikes_state *state, codelike_entry *entry)
{
    if (state->num_codelikes == 0) {
        return NULL;
    }
    size_t mask = state->num_slots - 1;
    size_t i = home_slot(state, entry->address);
    while (state->slots[i] != entry) {
        if (state->slots[i] == NULL) {
            return NULL;
        }
        i = (i + 1) & mask;
    }
    return remove_slot(state, i);
}

static bool
is_empty(codelike_entry *entry)
{
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        if (entry->local_tools[event]) {
            return false;
        }
    }
    return entry->locations == NULL && !entry->watched;
}

/* Take out every entry, or those that hold nothing; return them as a list. */
static codelike_entry *
remove_entries(codelikes_state *state, bool all)
{
    codelike_entry *removed = NULL;
    for (size_t i = 0; i < state->num_slots; ) {
        codelike_entry *entry = state->slots[i];
        if (entry == NULL || !(all || is_empty(entry))) {
            i++;
            continue;
        }
        remove_slot(state, i);
        entry->next_removed = removed;
        removed = entry;
    }
    return removed;
}

static void
release_removed(codelike_entry *removed)
{
    while (removed != NULL) {
        codelike_entry *entry = removed;
        removed = entry->next_removed;
        Py_DECREF(entry);
    }
}

/* Unlock the state after what may have changed local_tools. */
static void
unlock_changed(PyInterpreterState *interp)
{
    bool changed = interp->codelikes.changed;
    interp->codelikes.changed = false;
    UNLOCK(&interp->codelikes);
    if (changed) {
        _PyMonitoring_UpdateProducers(interp);
    }
}

static PyObject *
codelike_died(PyObject *Py_UNUSED(self), PyObject *ref)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *removed = remove_entry(state, (codelike_entry *)ref);
    unlock_changed(interp);
    if (removed != NULL) {
        if (removed->watched) {
            _Py_waiting_calls_forget_codelike(interp, removed->address);
        }
        Py_DECREF(removed);
    }
    Py_RETURN_NONE;
}

static PyMethodDef died_method = {
    "codelike_died", codelike_died, METH_O, NULL
};

static PyType_Spec entry_spec = {
    .name = "sys.monitoring.codelike",
    .basicsize = sizeof(codelike_entry),
    .flags = (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
              | Py_TPFLAGS_DISALLOW_INSTANTIATION),
    .slots = (PyType_Slot[]){{0, NULL}},
};

/* Return a new entry for the code-like, or NULL with an exception set. */
static codelike_entry *
new_entry(codelikes_state *state, PyObject *codelike)
{
    if (state->type == NULL) {
        PyObject *type = PyType_FromSpecWithBases(
            &entry_spec, (PyObject *)&_PyWeakref_RefType);
        if (type == NULL) {
            return NULL;
        }
        PyObject *died = PyCFunction_New(&died_method, NULL);
        if (died == NULL) {
            Py_DECREF(type);
            return NULL;
        }
        LOCK(state);
        if (state->type == NULL) {
            state->type = Py_NewRef(type);
            state->died = Py_NewRef(died);
        }
        UNLOCK(state);
        Py_DECREF(type);
        Py_DECREF(died);
    }
    PyObject *args = PyTuple_Pack(2, codelike, state->died);
    if (args == NULL) {
        return NULL;
    }
    PyObject *entry = _PyWeakref_RefType.tp_new((PyTypeObject *)state->type,
                                                args, NULL);
    Py_DECREF(args);
    if (entry != NULL) {
        ((codelike_entry *)entry)->address = codelike;
    }
    return (codelike_entry *)entry;
}

/* Call with the state locked for what is known of the code-like, which is made
   if need be.  On success return it with the state still locked; on failure
   return NULL with an exception set and the state unlocked. */
static codelike_entry *
get_locked(codelikes_state *state, PyObject *codelike)
{
    codelike_entry *entry = find_codelike(state, codelike);
    if (entry != NULL) {
        return entry;
    }
    UNLOCK(state);
    /* This can run the garbage collector, and so anything. */
    codelike_entry *made = new_entry(state, codelike);
    if (made == NULL) {
        return NULL;
    }
    LOCK(state);
    entry = find_codelike(state, codelike);
    if (entry == NULL && reserve_codelike(state) == 0) {
        add_to_slots(state, made);
        state->num_codelikes++;
        return made;
    }
    if (entry == NULL) {
        UNLOCK(state);
        PyErr_NoMemory();
    }
    Py_DECREF(made);
    return entry;
}

/* ------ The interface ------ */

void
_Py_codelikes_lock(PyInterpreterState *interp)
{
    LOCK(&interp->codelikes);
}

void
_Py_codelikes_unlock(PyInterpreterState *interp)
{
    UNLOCK(&interp->codelikes);
}

uint8_t
_Py_codelike_local_tools(PyInterpreterState *interp, PyObject *codelike,
                         int event)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *entry = find_codelike(state, codelike);
    uint8_t tools = entry ? entry->local_tools[event] : 0;
    UNLOCK(state);
    return tools;
}

uint8_t
_Py_codelike_disabled_tools(PyInterpreterState *interp, PyObject *codelike,
                            int event, int location)
{
    codelikes_state *state = &interp->codelikes;
    uint8_t tools = 0;
    LOCK(state);
    codelike_entry *entry = find_codelike(state, codelike);
    if (entry != NULL && entry->num_locations) {
        tools = *find_location(entry, location_key(event, location))
                & TOOLS_MASK;
    }
    UNLOCK(state);
    return tools;
}

int
_Py_codelike_disable(PyInterpreterState *interp, PyObject *codelike,
                     int event, int location, int tool)
{
    if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        return 0;
    }
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *entry = get_locked(state, codelike);
    if (entry == NULL) {
        return -1;
    }
    if (reserve_location(entry) < 0) {
        codelike_entry *removed =
            is_empty(entry) ? remove_entry(state, entry) : NULL;
        UNLOCK(state);
        Py_XDECREF(removed);
        PyErr_NoMemory();
        return -1;
    }
    uint64_t key = location_key(event, location);
    uint64_t *slot = find_location(entry, key);
    if (*slot == 0) {
        entry->num_locations++;
    }
    *slot |= key | 1 << tool;
    FT_ATOMIC_STORE_UINT8_RELAXED(state->has_disabled[event], 1);
    UNLOCK(state);
    return 1;
}

int
_Py_codelike_watch(PyInterpreterState *interp, PyObject *codelike)
{
    if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        return 0;
    }
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *entry = get_locked(state, codelike);
    if (entry == NULL) {
        return -1;
    }
    entry->watched = true;
    UNLOCK(state);
    return 0;
}

int
_Py_codelike_set_local_events(PyInterpreterState *interp, PyObject *codelike,
                              int tool, uint32_t events)
{
    codelikes_state *state = &interp->codelikes;
    codelike_entry *removed = NULL;
    LOCK(state);
    if (events == 0 && find_codelike(state, codelike) == NULL) {
        goto done;
    }
    codelike_entry *entry = get_locked(state, codelike);
    if (entry == NULL) {
        return -1;
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        uint8_t tools = entry->local_tools[event] & ~(1 << tool);
        tools |= (events >> event & 1) << tool;
        set_local_tools(state, entry, event, tools);
    }
    if (is_empty(entry)) {
        removed = remove_entry(state, entry);
    }
done:
    unlock_changed(interp);
    Py_XDECREF(removed);
    return 0;
}

uint32_t
_Py_codelike_get_local_events(PyInterpreterState *interp, PyObject *codelike,
                              int tool)
{
    codelikes_state *state = &interp->codelikes;
    uint32_t events = 0;
    LOCK(state);
    codelike_entry *entry = find_codelike(state, codelike);
    if (entry != NULL) {
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            events |= (uint32_t)(entry->local_tools[event] >> tool & 1)
                      << event;
        }
    }
    UNLOCK(state);
    return events;
}

void
_Py_codelikes_restart(PyInterpreterState *interp)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    for (size_t i = 0; i < state->num_slots; i++) {
        if (state->slots[i] != NULL) {
            forget_locations(state->slots[i]);
        }
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        FT_ATOMIC_STORE_UINT8_RELAXED(state->has_disabled[event], 0);
    }
    codelike_entry *removed = remove_entries(state, false);
    UNLOCK(state);
    release_removed(removed);
}

void
_Py_codelikes_free_tool(PyInterpreterState *interp, int tool)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    for (size_t i = 0; i < state->num_slots; i++) {
        codelike_entry *entry = state->slots[i];
        if (entry == NULL) {
            continue;
        }
        uint8_t others = 0;
        for (size_t j = 0; j < entry->num_slots; j++) {
            entry->locations[j] &= ~(UINT64_C(1) << tool);
            others |= entry->locations[j] & TOOLS_MASK;
        }
        if (others == 0) {
            forget_locations(entry);
        }
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            set_local_tools(state, entry, event,
                            entry->local_tools[event] & ~(1 << tool));
        }
    }
    codelike_entry *removed = remove_entries(state, false);
    unlock_changed(interp);
    release_removed(removed);
}

void
_Py_codelikes_clear(PyInterpreterState *interp)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *removed = remove_entries(state, true);
    unlock_changed(interp);
    release_removed(removed);
    Py_CLEAR(state->type);
    Py_CLEAR(state->died);
}
