/* What monitoring tools chose for single code-likes. */

#include "Python.h"
#include "pycore_codelikes.h"
#include "pycore_interp.h"        // PyInterpreterState.codelikes
#include "pycore_object.h"        // _PyType_SUPPORTS_WEAKREFS()
#include "pycore_pyatomic_ft_wrappers.h"
#include "pycore_producers.h"     // _PyMonitoring_UpdateProducers()
#include "pycore_pymem.h"         // _PyMem_FreeDelayed()
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_waiting_calls.h"
#include "pycore_weakref.h"

typedef struct _Py_codelikes_state codelikes_state;
typedef struct _Py_codelike codelike_entry;
typedef struct _Py_codelike_table codelike_table;
typedef struct _Py_location_table location_table;

#define TOOLS_MASK UINT64_C(0xff)

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
        _PyMem_FreeDelayed(old);
    }
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
    location_table *table = PyMem_Calloc(
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

static void
forget_locations(codelike_entry *entry)
{
    set_locations(entry, (location_table *)&no_locations);
    entry->num_locations = 0;
}

/* ------ The code-likes of an interpreter ------ */

/* What is in the slot of a code-like that was removed. */
static const struct _Py_codelike removed_entry = {.address = NULL};

static bool
is_entry(codelike_entry *entry)
{
    return entry->address != NULL;
}

static codelike_entry *
find_codelike(codelikes_state *state, PyObject *codelike)
{
    return state->table ? _Py_codelike_find(state, codelike) : NULL;
}

static void
add_to_table(codelikes_state *state, codelike_table *table,
             codelike_entry *entry)
{
    size_t i = _Py_codelike_address_hash(entry->address);
    while (table->slots[i & table->mask] != &state->no_entry) {
        i++;
    }
    FT_ATOMIC_STORE_PTR_RELEASE(table->slots[i & table->mask], entry);
}

/* Make room for one code-like.  Return -1 if there is no memory. */
static int
reserve_codelike(codelikes_state *state)
{
    codelike_table *old = state->table;
    if (old && (state->num_used + 1) * 2 <= old->mask + 1) {
        return 0;
    }
    size_t num_slots = 16;
    while (num_slots < (state->num_codelikes + 1) * 4) {
        num_slots *= 2;
    }
    codelike_table *table = PyMem_Malloc(
        offsetof(codelike_table, slots)
        + num_slots * sizeof(table->slots[0]));
    if (table == NULL) {
        return -1;
    }
    table->mask = num_slots - 1;
    for (size_t i = 0; i < num_slots; i++) {
        table->slots[i] = &state->no_entry;
    }
    for (size_t i = 0; old && i <= old->mask; i++) {
        if (is_entry(old->slots[i])) {
            add_to_table(state, table, old->slots[i]);
        }
    }
    state->num_used = state->num_codelikes;
    FT_ATOMIC_STORE_PTR_RELEASE(state->table, table);
    if (old) {
        _PyMem_FreeDelayed(old);
    }
    return 0;
}

static void
set_local_tools(codelikes_state *state, codelike_entry *entry, int event,
                uint8_t tools)
{
    uint8_t changed = entry->local_tools[event] ^ tools;
    FT_ATOMIC_STORE_UINT8_RELAXED(entry->local_tools[event], tools);
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
        FT_ATOMIC_STORE_UINT8(state->local_tools[event], any);
        state->changed = true;
    }
}

/* No location of the event is disabled any more. */
static void
clear_has_disabled(codelikes_state *state, int event)
{
    if (state->has_disabled[event]) {
        FT_ATOMIC_STORE_UINT8(state->has_disabled[event], 0);
        state->changed = true;
    }
}

/* Empty a slot of the table, and those before it that were not empty only for
   its sake: no search has to go on there. */
static void
empty_slot(codelikes_state *state, size_t i)
{
    codelike_table *table = state->table;
    codelike_entry *removed = (codelike_entry *)&removed_entry;
    codelike_entry *empty = &state->no_entry;
    FT_ATOMIC_STORE_PTR_RELEASE(table->slots[i], removed);
    if (table->slots[(i + 1) & table->mask] != empty) {
        return;
    }
    for (; table->slots[i] == removed; i = (i - 1) & table->mask) {
        FT_ATOMIC_STORE_PTR_RELEASE(table->slots[i], empty);
        state->num_used--;
    }
}

/* Take the entry in a slot, which the caller has, out of the table.  It is to
   be released when the state is unlocked: that takes the lock of weak
   references. */
static void
remove_slot(codelikes_state *state, size_t i)
{
    codelike_entry *entry = state->table->slots[i];
    empty_slot(state, i);
    state->num_codelikes--;
    entry->known = false;
    forget_locations(entry);
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        set_local_tools(state, entry, event, 0);
        if (state->num_codelikes == 0) {
            clear_has_disabled(state, event);
        }
    }
}

/* Take the entry out of the table. */
static void
remove_entry(codelikes_state *state, codelike_entry *entry)
{
    codelike_table *table = state->table;
    size_t i = _Py_codelike_address_hash(entry->address);
    while (table->slots[i & table->mask] != entry) {
        i++;
    }
    remove_slot(state, i & table->mask);
}

static bool
is_dead(codelike_entry *entry)
{
    return FT_ATOMIC_LOAD_PTR_RELAXED(entry->ref.wr_object) == Py_None;
}

/* Return whether nothing is known of the code-like, or never will be again. */
static bool
is_empty(codelike_entry *entry)
{
    if (is_dead(entry)) {
        return true;
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        if (entry->local_tools[event]) {
            return false;
        }
    }
    return !has_locations(entry) && !entry->watched;
}

/* Take out every entry, or those that hold nothing; return them as a list. */
static codelike_entry *
remove_entries(codelikes_state *state, bool all)
{
    codelike_entry *removed = NULL;
    for (size_t i = 0; state->table && i <= state->table->mask; i++) {
        codelike_entry *entry = state->table->slots[i];
        if (is_entry(entry) && (all || is_empty(entry))) {
            remove_slot(state, i);
            entry->next_removed = removed;
            removed = entry;
        }
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

/* Unlock the state after what may have changed what producers depend on.  They
   follow before: another thread that finds the change made relies on it. */
static void
unlock_changed(PyInterpreterState *interp)
{
    if (interp->codelikes.changed) {
        interp->codelikes.changed = false;
        _PyMonitoring_UpdateProducers(interp);
    }
    _Py_CODELIKES_UNLOCK(&interp->codelikes);
}

/* Anybody can call this, with anything: weak references show it. */
static PyObject *
codelike_died(PyObject *Py_UNUSED(self), PyObject *ref)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    codelike_entry *entry = (codelike_entry *)ref;
    if (!Py_IS_TYPE(ref, (PyTypeObject *)interp->codelikes.type)
        || !is_dead(entry))
    {
        Py_RETURN_NONE;
    }
    _Py_CODELIKES_LOCK(&interp->codelikes);
    bool known = entry->known;
    if (known) {
        remove_entry(&interp->codelikes, entry);
    }
    /* It may be known no more, but only once: the address is used again. */
    bool watched = entry->watched;
    entry->watched = false;
    unlock_changed(interp);
    if (watched) {
        _Py_waiting_calls_forget_codelike(interp, entry->address);
    }
    if (known) {
        Py_DECREF(entry);
    }
    Py_RETURN_NONE;
}

static PyMethodDef died_method = {
    "codelike_died", codelike_died, METH_O, NULL
};

static void
free_entry(void *entry)
{
#ifdef Py_GIL_DISABLED
    _PyObject_FreeDelayed(entry);
#else
    PyObject_GC_Del(entry);
#endif
}

static PyType_Spec entry_spec = {
    .name = "sys.monitoring.codelike",
    .basicsize = sizeof(codelike_entry),
    .flags = (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
              | Py_TPFLAGS_DISALLOW_INSTANTIATION),
    .slots = (PyType_Slot[]){{Py_tp_free, free_entry}, {0, NULL}},
};

/* Have the type of the references, and what they call.  Return -1 with an
   exception set on failure. */
static int
make_type(codelikes_state *state)
{
    _Py_CODELIKES_LOCK(state);
    bool made = state->type != NULL;
    _Py_CODELIKES_UNLOCK(state);
    if (made) {
        return 0;
    }
    PyObject *type = PyType_FromSpecWithBases(
        &entry_spec, (PyObject *)&_PyWeakref_RefType);
    PyObject *died = type ? PyCFunction_New(&died_method, NULL) : NULL;
    if (died == NULL) {
        if (!PyErr_Occurred()) {
            /* The base forgets it where the type's name cannot be copied. */
            PyErr_NoMemory();
        }
        Py_XDECREF(type);
        return -1;
    }
    _Py_CODELIKES_LOCK(state);
    if (state->type == NULL) {
        state->type = Py_NewRef(type);
        state->died = Py_NewRef(died);
    }
    _Py_CODELIKES_UNLOCK(state);
    Py_DECREF(type);
    Py_DECREF(died);
    return 0;
}

/* Return a new entry for the code-like, or NULL with an exception set. */
static codelike_entry *
new_entry(codelikes_state *state, PyObject *codelike)
{
    if (make_type(state) < 0) {
        return NULL;
    }
    PyObject *args = PyTuple_Pack(2, codelike, state->died);
    if (args == NULL) {
        return NULL;
    }
    codelike_entry *entry = (codelike_entry *)_PyWeakref_RefType.tp_new(
        (PyTypeObject *)state->type, args, NULL);
    Py_DECREF(args);
    if (entry != NULL) {
        entry->address = codelike;
        entry->locations = (location_table *)&no_locations;
    }
    return entry;
}

/* Call with the state locked for what is known of the code-like, which is made
   if need be.  On success return it with the state still locked; on failure
   return NULL with an exception set and the state unlocked. */
static codelike_entry *
get_locked(codelikes_state *state, PyObject *codelike)
{
    for (;;) {
        codelike_entry *entry = find_codelike(state, codelike);
        if (entry != NULL) {
            return entry;
        }
        _Py_CODELIKES_UNLOCK(state);
        /* This can run the garbage collector, and so anything. */
        entry = new_entry(state, codelike);
        if (entry == NULL) {
            return NULL;
        }
        _Py_CODELIKES_LOCK(state);
        bool known = find_codelike(state, codelike) != NULL;
        if (!known && reserve_codelike(state) == 0) {
            entry->known = true;
            add_to_table(state, state->table, entry);
            state->num_codelikes++;
            state->num_used++;
            return entry;
        }
        _Py_CODELIKES_UNLOCK(state);
        Py_DECREF(entry);
        if (!known) {
            PyErr_NoMemory();
            return NULL;
        }
        _Py_CODELIKES_LOCK(state);
    }
}

/* Take the entry out of the table if it holds nothing; return it or NULL, as
   a list. */
static codelike_entry *
take_if_empty(codelikes_state *state, codelike_entry *entry)
{
    if (!is_empty(entry)) {
        return NULL;
    }
    remove_entry(state, entry);
    entry->next_removed = NULL;
    return entry;
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
    _Py_CODELIKES_LOCK(state);
    codelike_entry *entry = get_locked(state, codelike);
    if (entry == NULL) {
        return -1;
    }
    bool is_owner = _Py_codelikes_is_owner(state, owner);
    if (!is_owner || reserve_location(entry) < 0) {
        codelike_entry *removed = take_if_empty(state, entry);
        _Py_CODELIKES_UNLOCK(state);
        release_removed(removed);
        if (!is_owner) {
            return 1;
        }
        PyErr_NoMemory();
        return -1;
    }
    uint64_t key = _Py_codelike_location_key(event, location);
    unsigned long long *slot = find_location(entry->locations, key);
    if (*slot == 0) {
        entry->num_locations++;
    }
    uint64_t disabled = UINT64_C(1) << _Py_codelikes_tool(owner);
    FT_ATOMIC_STORE_ULLONG_RELAXED(*slot, *slot | key | disabled);
    if (!state->has_disabled[event]) {
        FT_ATOMIC_STORE_UINT8(state->has_disabled[event], 1);
        state->changed = true;
    }
    unlock_changed(interp);
    return 1;
}

int
_Py_codelike_watch(PyInterpreterState *interp, PyObject *codelike)
{
    if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        return 0;
    }
    codelikes_state *state = &interp->codelikes;
    _Py_CODELIKES_LOCK(state);
    codelike_entry *entry = get_locked(state, codelike);
    if (entry == NULL) {
        return -1;
    }
    entry->watched = true;
    _Py_CODELIKES_UNLOCK(state);
    return 0;
}

int
_Py_codelike_set_local_events(PyInterpreterState *interp, PyObject *codelike,
                              int tool, uint32_t events)
{
    codelikes_state *state = &interp->codelikes;
    codelike_entry *removed = NULL;
    _Py_CODELIKES_LOCK(state);
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
    removed = take_if_empty(state, entry);
done:
    unlock_changed(interp);
    release_removed(removed);
    return 0;
}

uint32_t
_Py_codelike_get_local_events(PyInterpreterState *interp, PyObject *codelike,
                              int tool)
{
    codelikes_state *state = &interp->codelikes;
    uint32_t events = 0;
    _Py_CODELIKES_LOCK(state);
    codelike_entry *entry = find_codelike(state, codelike);
    if (entry != NULL) {
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            events |= (uint32_t)(entry->local_tools[event] >> tool & 1)
                      << event;
        }
    }
    _Py_CODELIKES_UNLOCK(state);
    return events;
}

void
_Py_codelikes_restart(PyInterpreterState *interp)
{
    codelikes_state *state = &interp->codelikes;
    _Py_CODELIKES_LOCK(state);
    for (size_t i = 0; state->table && i <= state->table->mask; i++) {
        if (is_entry(state->table->slots[i])) {
            forget_locations(state->table->slots[i]);
        }
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        clear_has_disabled(state, event);
    }
    codelike_entry *removed = remove_entries(state, false);
    unlock_changed(interp);
    release_removed(removed);
}

/* Count who owns a tool: nobody if that is odd, or 0 and it was never used. */
static void
set_ownership(codelikes_state *state, int tool, uint32_t ownership)
{
    FT_ATOMIC_STORE_UINT32_RELAXED(state->ownership[tool], ownership);
    state->changed = true;
}

void
_Py_codelikes_use_tool(PyInterpreterState *interp, int tool)
{
    codelikes_state *state = &interp->codelikes;
    _Py_CODELIKES_LOCK(state);
    set_ownership(state, tool, (state->ownership[tool] + 1) & ~1u);
    unlock_changed(interp);
}

/* Return the events of which other tools have locations disabled, as a set. */
static uint32_t
free_tool_of_locations(codelike_entry *entry, int tool)
{
    location_table *table = entry->locations;
    uint32_t others = 0;
    for (size_t i = 0; i <= table->mask; i++) {
        FT_ATOMIC_STORE_ULLONG_RELAXED(
            table->slots[i], table->slots[i] & ~(UINT64_C(1) << tool));
        if (table->slots[i] & TOOLS_MASK) {
            others |= 1 << _Py_codelike_key_event(table->slots[i]);
        }
    }
    if (others == 0) {
        forget_locations(entry);
    }
    return others;
}

void
_Py_codelikes_free_tool(PyInterpreterState *interp, int tool)
{
    codelikes_state *state = &interp->codelikes;
    uint32_t others = 0;
    _Py_CODELIKES_LOCK(state);
    set_ownership(state, tool, state->ownership[tool] | 1);
    for (size_t i = 0; state->table && i <= state->table->mask; i++) {
        codelike_entry *entry = state->table->slots[i];
        if (!is_entry(entry)) {
            continue;
        }
        if (has_locations(entry)) {
            others |= free_tool_of_locations(entry, tool);
        }
        for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
            set_local_tools(state, entry, event,
                            entry->local_tools[event] & ~(1 << tool));
        }
    }
    for (int event = 0; event < _PY_MONITORING_LOCAL_EVENTS; event++) {
        if (!(others >> event & 1)) {
            clear_has_disabled(state, event);
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
    _Py_CODELIKES_LOCK(state);
    codelike_entry *removed = remove_entries(state, true);
    unlock_changed(interp);
    release_removed(removed);
    PyMem_Free(state->table);
    state->table = NULL;
    state->num_used = 0;
    Py_CLEAR(state->type);
    Py_CLEAR(state->died);
}
