/* What monitoring tools chose for single code-likes. */

#include "Python.h"
#include "pycore_ceval.h"         // _PyEval_StopTheWorld()
#include "pycore_codelikes.h"
#include "pycore_interp.h"        // PyInterpreterState.codelikes
#include "pycore_object.h"        // _PyType_SUPPORTS_WEAKREFS()
#include "pycore_pymem.h"         // _PyObject_FreeDelayed()

typedef struct _Py_codelikes_state codelikes_state;
typedef struct _Py_codelike codelike_entry;
typedef struct _Py_codelike_table codelike_table;
typedef struct _Py_location_table location_table;

#define TOOLS_MASK UINT64_C(0xff)

/* Keep other threads from changing what is known.  With the world stopped it
   may be held by a thread that waited for it, or that ran out of memory for a
   delayed free: what it looks at next is looked up anew, or needed. */
#ifdef Py_GIL_DISABLED
#  define LOCK(STATE) PyMutex_Lock(&(STATE)->mutex)
#  define UNLOCK(STATE) PyMutex_Unlock(&(STATE)->mutex)
#else
#  define LOCK(STATE) ((void)(STATE))
#  define UNLOCK(STATE) ((void)(STATE))
#endif

/* ------ The locations of a code-like ------ */

/* What has no location; it is never written. */
static const location_table no_locations = {0, {0}};

static bool
has_locations(codelike_entry *entry)
{
    return entry->locations != &no_locations;
}

/* Return the slot of the key, or the empty one where it belongs. */
static unsigned long long *
find_location(location_table *table, uint64_t key)
{
    size_t i = _Py_codelike_location_hash(key);
    while (table->slots[i & table->mask] != 0
           && (table->slots[i & table->mask] & ~TOOLS_MASK) != key)
    {
        i++;
    }
    return &table->slots[i & table->mask];
}

static void
set_locations(codelike_entry *entry, location_table *table)
{
    location_table *old = entry->locations;
    FT_ATOMIC_STORE_PTR_RELEASE(entry->locations, table);
    if (old != &no_locations) {
        _PyObject_FreeDelayed(old);
    }
}

static void
forget_locations(codelike_entry *entry)
{
    entry->num_locations = 0;
    set_locations(entry, (location_table *)&no_locations);
}

/* Make room for one location.  Return -1 if there is no memory. */
static int
reserve_location(codelike_entry *entry)
{
    location_table *old = entry->locations;
    if (has_locations(entry)
        && (entry->num_locations + 1) * 2 <= old->mask + 1)
    {
        return 0;
    }
    size_t num_slots = 2 * (old->mask + 1);
    // As for an object: _PyMem_FreeDelayed() is not the same in each 3.13.
    location_table *table = PyObject_Calloc(
        1, offsetof(location_table, slots)
           + num_slots * sizeof(table->slots[0]));
    if (table == NULL) {
        return -1;
    }
    table->mask = num_slots - 1;
    for (size_t i = 0; i <= old->mask; i++) {
        if (old->slots[i] != 0) {
            *find_location(table, old->slots[i] & ~TOOLS_MASK) =
                old->slots[i];
        }
    }
    set_locations(entry, table);
    return 0;
}

/* Return the events of which other tools have locations disabled, as a set. */
static uint32_t
free_tool_of_locations(codelike_entry *entry, int tool)
{
    location_table *table = entry->locations;
    uint32_t others = 0;
    for (size_t i = 0; has_locations(entry) && i <= table->mask; i++) {
        if (table->slots[i] >> tool & 1) {
            FT_ATOMIC_STORE_ULLONG_RELAXED(
                table->slots[i], table->slots[i] & ~(UINT64_C(1) << tool));
        }
        if (table->slots[i] & TOOLS_MASK) {
            others |= 1 << _Py_codelike_key_event(table->slots[i]);
        }
    }
    if (others == 0) {
        forget_locations(entry);
    }
    return others;
}

/* ------ The code-likes of an interpreter ------ */

/* No other thread can see the entry. */
static void
free_entry(codelike_entry *entry)
{
    Py_DECREF(entry->ref);
    if (has_locations(entry)) {
        PyObject_Free(entry->locations);
    }
    PyMem_Free(entry);
}

static codelike_entry *
new_entry(PyObject *codelike)
{
    PyObject *ref = PyWeakref_NewRef(codelike, NULL);
    if (ref == NULL) {
        return NULL;
    }
    codelike_entry *entry = PyMem_Calloc(1, sizeof(*entry));
    if (entry == NULL) {
        Py_DECREF(ref);
        PyErr_NoMemory();
        return NULL;
    }
    entry->address = codelike;
    entry->ref = (PyWeakReference *)ref;
    entry->locations = (location_table *)&no_locations;
    return entry;
}

/* Return whether the code-like lives, and anything is known of it. */
static bool
is_needed(codelike_entry *entry)
{
    if (FT_ATOMIC_LOAD_PTR_RELAXED(entry->ref->wr_object) == Py_None) {
        return false;
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        if (entry->local_tools[event]) {
            return true;
        }
    }
    return has_locations(entry);
}

static bool
has_room(codelikes_state *state)
{
    return state->table != NULL
           && (state->num_codelikes + 1) * 2 <= state->table->mask + 1;
}

static codelike_entry *
find_codelike(codelikes_state *state, PyObject *codelike)
{
    return state->table != NULL ? _Py_codelike_find(state, codelike) : NULL;
}

static void
add_to_table(codelike_table *table, codelike_entry *entry)
{
    size_t i = _Py_codelike_address_hash(entry->address);
    while (table->slots[i & table->mask] != NULL) {
        i++;
    }
    FT_ATOMIC_STORE_PTR_RELEASE(table->slots[i & table->mask], entry);
}

/* Drop the entries that are not needed, and make room for one more.  Return -1
   if there is no memory; nothing is changed then.

   What is dropped is freed when the world runs again: that can take the lock
   of weak references. */
static int
rebuild_table(PyInterpreterState *interp)
{
    codelikes_state *state = &interp->codelikes;
    codelike_entry *dropped = NULL;
    _PyEval_StopTheWorld(interp);
    codelike_table *old = state->table;
    size_t old_slots = old != NULL ? old->mask + 1 : 0;
    size_t num_needed = 0;
    for (size_t i = 0; i < old_slots; i++) {
        num_needed += old->slots[i] != NULL && is_needed(old->slots[i]);
    }
    size_t num_slots = 16;
    while (num_slots < (num_needed + 1) * 4) {
        num_slots *= 2;
    }
    codelike_table *table = PyMem_Calloc(
        1, offsetof(codelike_table, slots)
           + num_slots * sizeof(table->slots[0]));
    if (table != NULL) {
        table->mask = num_slots - 1;
        for (size_t i = 0; i < old_slots; i++) {
            codelike_entry *entry = old->slots[i];
            if (entry == NULL) {
                continue;
            }
            if (is_needed(entry)) {
                add_to_table(table, entry);
            }
            else {
                entry->next_dropped = dropped;
                dropped = entry;
            }
        }
        state->table = table;
        state->num_codelikes = num_needed;
        PyMem_Free(old);
    }
    _PyEval_StartTheWorld(interp);
    while (dropped != NULL) {
        codelike_entry *entry = dropped;
        dropped = entry->next_dropped;
        free_entry(entry);
    }
    return table != NULL ? 0 : -1;
}

/* Lock the state and return what is known of the code-like, made if need be;
   on failure return NULL with an exception set, the state not locked. */
static codelike_entry *
lock_entry(PyInterpreterState *interp, PyObject *codelike)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    codelike_entry *entry = find_codelike(state, codelike);
    if (entry != NULL) {
        return entry;
    }
    UNLOCK(state);
    /* The lock of weak references may have to be waited for. */
    codelike_entry *made = new_entry(codelike);
    if (made == NULL) {
        return NULL;
    }
    for (;;) {
        LOCK(state);
        entry = find_codelike(state, codelike);
        if (entry != NULL) {
            /* It has the same reference, which does not die here. */
            free_entry(made);
            return entry;
        }
        if (has_room(state)) {
            add_to_table(state->table, made);
            state->num_codelikes++;
            return made;
        }
        UNLOCK(state);
        if (rebuild_table(interp) < 0) {
            free_entry(made);
            PyErr_NoMemory();
            return NULL;
        }
    }
}

/* ------ The interface ------ */

int
_Py_codelike_disable(PyInterpreterState *interp, PyObject *codelike,
                     int event, int location, uint32_t owner)
{
    if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        return 0;
    }
    codelikes_state *state = &interp->codelikes;
    codelike_entry *entry = lock_entry(interp, codelike);
    if (entry == NULL) {
        return -1;
    }
    int res = 1;
    if (!_Py_codelikes_is_owner(state, owner)) {
        goto done;
    }
    if (reserve_location(entry) < 0) {
        res = -1;
        goto done;
    }
    uint64_t key = _Py_codelike_location_key(event, location);
    unsigned long long *slot = find_location(entry->locations, key);
    if (*slot == 0) {
        entry->num_locations++;
    }
    uint64_t disabled = UINT64_C(1) << _Py_codelikes_tool(owner);
    FT_ATOMIC_STORE_ULLONG_RELAXED(*slot, *slot | key | disabled);
    FT_ATOMIC_STORE_UINT8(state->has_disabled[event], 1);
done:
    UNLOCK(state);
    if (res < 0) {
        PyErr_NoMemory();
    }
    return res;
}

int
_Py_codelike_set_local_events(PyInterpreterState *interp, PyObject *codelike,
                              uint32_t owner, uint32_t events)
{
    codelikes_state *state = &interp->codelikes;
    int tool = _Py_codelikes_tool(owner);
    if (events == 0 && _Py_codelike_get_local_events(interp, codelike,
                                                     tool) == 0)
    {
        return 0;
    }
    codelike_entry *entry = lock_entry(interp, codelike);
    if (entry == NULL) {
        return -1;
    }
    if (_Py_codelikes_is_owner(state, owner)) {
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            uint8_t tools = entry->local_tools[event] & ~(1 << tool);
            tools |= (events >> event & 1) << tool;
            FT_ATOMIC_STORE_UINT8_RELAXED(entry->local_tools[event], tools);
        }
    }
    UNLOCK(state);
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
    if (state->table == NULL) {
        return;
    }
    LOCK(state);
    for (size_t i = 0; i <= state->table->mask; i++) {
        if (state->table->slots[i] != NULL) {
            forget_locations(state->table->slots[i]);
        }
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        FT_ATOMIC_STORE_UINT8(state->has_disabled[event], 0);
    }
    UNLOCK(state);
    /* Without memory for it, what is not needed goes later. */
    (void)rebuild_table(interp);
}

void
_Py_codelikes_use_tool(PyInterpreterState *interp, int tool)
{
    codelikes_state *state = &interp->codelikes;
    LOCK(state);
    FT_ATOMIC_STORE_UINT32_RELAXED(state->ownership[tool],
                                   (state->ownership[tool] + 1) & ~1u);
    UNLOCK(state);
}

void
_Py_codelikes_free_tool(PyInterpreterState *interp, int tool)
{
    codelikes_state *state = &interp->codelikes;
    uint32_t others = 0;
    LOCK(state);
    FT_ATOMIC_STORE_UINT32_RELAXED(state->ownership[tool],
                                   state->ownership[tool] | 1);
    for (size_t i = 0; state->table != NULL && i <= state->table->mask; i++) {
        codelike_entry *entry = state->table->slots[i];
        if (entry == NULL) {
            continue;
        }
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            FT_ATOMIC_STORE_UINT8_RELAXED(
                entry->local_tools[event],
                entry->local_tools[event] & ~(1 << tool));
        }
        others |= free_tool_of_locations(entry, tool);
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        FT_ATOMIC_STORE_UINT8(state->has_disabled[event],
                              others >> event & 1);
    }
    UNLOCK(state);
    if (state->table != NULL) {
        (void)rebuild_table(interp);
    }
}

void
_Py_codelikes_clear(PyInterpreterState *interp)
{
    codelikes_state *state = &interp->codelikes;
    codelike_table *table = state->table;
    if (table == NULL) {
        return;
    }
    state->table = NULL;
    state->num_codelikes = 0;
    memset(state->has_disabled, 0, sizeof(state->has_disabled));
    for (size_t i = 0; i <= table->mask; i++) {
        if (table->slots[i] != NULL) {
            free_entry(table->slots[i]);
        }
    }
    PyMem_Free(table);
}
