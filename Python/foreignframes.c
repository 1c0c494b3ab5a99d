/* The frames of code that is not bytecode. */

#include "Python.h"
#include "pycore_ceval.h"         // _PyEval_BuiltinsFromGlobals()
#include "pycore_code.h"          // _PyCode_InitAddressRange()
#include "pycore_codelikes.h"     // _Py_codelike_get_code()
#include "pycore_codelocations.h" // _PyCodeLike_NewCode()
#include "pycore_dict.h"          // _PyDictKeys_StringLookup()
#include "pycore_foreignframes.h"
#include "pycore_frame.h"         // _PyInterpreterFrame
#include "pycore_interp.h"        // PyInterpreterState.ceval
#include "pycore_object.h"        // _PyObject_GC_TRACK()
#include "pycore_pyatomic_ft_wrappers.h" // FT_ATOMIC_LOAD_PTR_RELAXED()
#include "pycore_pystate.h"       // _PyThreadState_GET()
#include "pycore_traceback.h"     // _PyTraceBack_FromFrame()
#include "pycore_tstate.h"        // _PyThreadStateImpl

typedef struct _Py_activation activation;
typedef struct _Py_foreign_frames foreign_frames;

static inline foreign_frames *
frames_of(PyThreadState *tstate)
{
    return _PyForeignFrames_OF(tstate);
}

static inline activation *
activation_at(foreign_frames *frames, Py_ssize_t i)
{
    assert(0 <= i && i < frames->num_activations);
    return &frames->activations->items[i];
}

/* What runs while a code-like is asked, or a legacy tool is called, fires no
   events. */
static int
stop_events(PyThreadState *tstate)
{
    int what = tstate->what_event;
    tstate->tracing++;
    tstate->what_event = _Py_FOREIGN_EVENT;
    return what;
}

static void
allow_events(PyThreadState *tstate, int what)
{
    tstate->what_event = what;
    tstate->tracing--;
}

/* ------ Places ------ */

static bool
has_unit(PyCodeObject *code, int offset)
{
    return (offset & 1) == 0
           && (size_t)offset < (size_t)Py_SIZE(code) * sizeof(_Py_CODEUNIT);
}

/* Have a frame be at an offset, and at a line if that is not 0.  Whether these
   agree, and which line it is otherwise, is worked out when somebody asks. */
static void
set_place(PyFrameObject *frame, int offset, int lineno)
{
    PyCodeObject *code = _PyFrame_GetCode(frame->f_frame);
    FT_ATOMIC_STORE_PTR_RELAXED(
        frame->f_frame->instr_ptr,
        _PyCode_CODE(code) + (has_unit(code, offset) ? offset >> 1 : -1));
    FT_ATOMIC_STORE_INT_RELAXED(frame->f_lineno, lineno);
}

int
_PyForeignFrames_GetUnit(PyFrameObject *frame)
{
    PyCodeObject *code = _PyFrame_GetCode(frame->f_frame);
    _Py_CODEUNIT *place = FT_ATOMIC_LOAD_PTR_RELAXED(frame->f_frame->instr_ptr);
    int unit = (int)(place - _PyCode_CODE(code));
    int lineno = FT_ATOMIC_LOAD_INT_RELAXED(frame->f_lineno);
    if (unit >= 0) {
        int line = PyCode_Addr2Line(code, unit * (int)sizeof(_Py_CODEUNIT));
        if (lineno == 0 || line < 0 || line == lineno) {
            return unit;
        }
    }
    /* Tools believe the location more than the line: one without a location,
       or at least of that line. */
    unit = (int)Py_SIZE(code) - 1;
    PyCodeAddressRange range;
    _PyCode_InitAddressRange(code, &range);
    while (_PyLineTable_NextAddressRange(&range)) {
        if (range.ar_line < 0) {
            return range.ar_start / (int)sizeof(_Py_CODEUNIT);
        }
        if (range.ar_line == lineno) {
            unit = range.ar_start / (int)sizeof(_Py_CODEUNIT);
        }
    }
    return unit;
}

/* ------ Code objects for code-likes that are none ------ */

/* Return the code object of a code-like that is none, in get_code()'s way. */
static Py_NO_INLINE PyObject *
find_code(PyThreadState *tstate, PyObject *codelike)
{
    PyObject *code = _Py_codelike_get_code(tstate->interp, codelike);
    if (code != NULL) {
        return code;
    }
    code = _PyCodeLike_NewCode(codelike, NULL, NULL);
    if (code != NULL && _PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {
        Py_SETREF(code, _Py_codelike_set_code(tstate->interp, codelike, code));
    }
    return code;
}

/* Return the code object of the code-like, a new reference: the same one each
   time, if it can be weakly referenced. */
static inline PyObject *
get_code(PyThreadState *tstate, PyObject *codelike)
{
    return PyCode_Check(codelike) && Py_SIZE(codelike) > 0
           ? Py_NewRef(codelike) : find_code(tstate, codelike);
}

/* ------ Frame objects ------ */

/* A frame needs no function, but an owner of its globals and its builtins: a
   tuple that begins with these. */
static PyObject *
make_namespaces(PyThreadState *tstate, PyObject *globals)
{
    PyObject *builtins = _PyEval_BuiltinsFromGlobals(tstate, globals);
    return builtins == NULL ? NULL : PyTuple_Pack(2, globals, builtins);
}

/* Find __name__ in the globals of Python code, a new reference or NULL.  Where
   it was found last is kept, as LOAD_GLOBAL does.  Return -1 with an exception
   set on failure. */
static int
find_name(PyThreadState *tstate, PyObject *globals, PyObject **name)
{
#ifndef Py_GIL_DISABLED
    foreign_frames *frames = frames_of(tstate);
    PyDictKeysObject *keys = ((PyDictObject *)globals)->ma_keys;
    if (frames->keys_version != 0 && frames->keys_version == keys->dk_version)
    {
        *name = Py_XNewRef(
            DK_UNICODE_ENTRIES(keys)[frames->name_index].me_value);
        return 0;
    }
    if (keys->dk_kind == DICT_KEYS_UNICODE) {
        frames->name_index = _PyDictKeys_StringLookup(keys, &_Py_ID(__name__));
        frames->keys_version = frames->name_index < 0 ? 0
            : _PyDictKeys_GetVersionForCurrentState(tstate->interp, keys);
    }
#endif
    return PyDict_GetItemRef(globals, &_Py_ID(__name__), name);
}

/* Return the namespaces of a frame for which the producer has none, a new
   reference.  The thread keeps the last ones for further frames of that file,
   unless somebody added a name. */
static PyObject *
get_namespaces(PyThreadState *tstate, PyObject *filename,
               _PyInterpreterFrame *below)
{
    foreign_frames *frames = frames_of(tstate);
    PyObject *builtins = below != NULL ? below->f_builtins
                                       : _PyEval_GetBuiltins(tstate);
    PyObject *name = NULL;
    if (below != NULL && find_name(tstate, below->f_globals, &name) < 0) {
        return NULL;
    }
    PyObject *kept = frames->namespaces;
    if (kept != NULL && PyTuple_GET_ITEM(kept, 1) == builtins
        && PyTuple_GET_ITEM(kept, 2) == filename
        && PyTuple_GET_ITEM(kept, 3) == name
        && PyDict_GET_SIZE(PyTuple_GET_ITEM(kept, 0)) == 3)
    {
        Py_DECREF(name);
        return Py_NewRef(kept);
    }
    PyObject *namespaces = NULL;
    PyObject *globals = PyDict_New();
    if (globals == NULL
        || (name != NULL
            && PyDict_SetItem(globals, &_Py_ID(__name__), name) < 0)
        || PyDict_SetItem(globals, &_Py_ID(__file__), filename) < 0
        || PyDict_SetItem(globals, &_Py_ID(__builtins__), builtins) < 0)
    {
        goto done;
    }
    if (name == NULL) {
        namespaces = PyTuple_Pack(2, globals, builtins);
        goto done;
    }
    namespaces = PyTuple_Pack(4, globals, builtins, filename, name);
    if (namespaces != NULL) {
        Py_XSETREF(frames->namespaces, Py_NewRef(namespaces));
    }
done:
    Py_XDECREF(globals);
    Py_XDECREF(name);
    return namespaces;
}

/* Show the producer's variables in a frame.  What a debugger writes goes to a
   dict of the frame's own. */
static int
set_locals(PyFrameObject *frame, PyObject *locals)
{
    PyObject *own = Py_XNewRef(frame->f_extra_locals);
    if (own == NULL) {
        own = frame->f_frame->f_locals != NULL
              ? Py_NewRef(frame->f_frame->f_locals) : PyDict_New();
    }
    PyObject *type = NULL, *layers = NULL;
    /* Interned, because the cache of types keeps what it is looked up with.  The
       program's own __import__() is not called. */
    PyObject *name = PyUnicode_InternFromString("ChainMap");
    PyObject *module = name == NULL || own == NULL
                       ? NULL : PyImport_ImportModuleLevel(
                           "collections", NULL, NULL, NULL, 0);
    if (module != NULL) {
        type = PyObject_GetAttr(module, name);
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    if (type != NULL) {
        layers = PyObject_CallFunctionObjArgs(type, own, locals, NULL);
    }
    Py_XDECREF(type);
    if (layers == NULL) {
        Py_XDECREF(own);
        return -1;
    }
    Py_XSETREF(frame->f_extra_locals, own);
    Py_XSETREF(frame->f_frame->f_locals, layers);
    return 0;
}

/* Steals the reference to what make_namespaces() returned. */
static void
set_namespaces(_PyInterpreterFrame *frame, PyObject *namespaces)
{
    PyObject *old = frame->f_funcobj;
    frame->f_funcobj = namespaces;
    frame->f_globals = PyTuple_GET_ITEM(namespaces, 0);
    frame->f_builtins = PyTuple_GET_ITEM(namespaces, 1);
    Py_XDECREF(old);
}

/* Make a frame object for a code-like that has the code object. */
static PyFrameObject *
make_frame(PyThreadState *tstate, PyCodeObject *code,
           _PyInterpreterFrame *below, PyObject *globals, PyObject *locals)
{
    PyObject *namespaces = globals != NULL
        ? make_namespaces(tstate, globals)
        : get_namespaces(tstate, code->co_filename, below);
    if (namespaces == NULL) {
        return NULL;
    }
    PyFrameObject *obj = _PyFrame_New_NoTrack(code);
    if (obj == NULL) {
        Py_DECREF(namespaces);
        return NULL;
    }
    _PyInterpreterFrame *frame = (_PyInterpreterFrame *)obj->_f_frame_data;
    PyFunctionObject func = {0};
    _PyFrame_Initialize(frame, &func, NULL, code, 0);
    frame->f_funcobj = NULL;
    set_namespaces(frame, namespaces);
    frame->stacktop = 0;    /* it has none of the code object's variables */
    frame->previous = NULL;
    frame->owner = FRAME_OWNED_BY_FRAME_OBJECT;
    obj->f_frame = frame;
    _PyObject_GC_TRACK(obj);
    if (locals != NULL && set_locals(obj, locals) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* ------ Activations ------ */

static bool
is_alive(activation *a)
{
#ifdef Py_GIL_DISABLED
    if (a->is_in_generator) {
        /* Which may have been resumed, and freed, by another thread. */
        _PyInterpreterFrame *frame = _PyThreadState_GET()->current_frame;
        while (frame != NULL && frame != a->below) {
            frame = frame->previous;
        }
        if (frame == NULL) {
            return false;
        }
    }
#endif
    /* The object of a frame that ends gets a copy of it. */
    return a->below == NULL
        || (a->below_frame->f_frame == a->below
            && (!a->is_in_generator
                || _PyFrame_GetGenerator(a->below)->gi_frame_state
                   == FRAME_EXECUTING));
}

/* Return the index of the newest activation below `end` that the frame called,
   of the code-like if that is given; -1 if there is none. */
static Py_ssize_t
find_newest(foreign_frames *frames, Py_ssize_t end,
            _PyInterpreterFrame *below, PyObject *codelike)
{
    while (--end >= 0) {
        activation *a = activation_at(frames, end);
        if (a->below == below && is_alive(a)
            && (codelike == NULL || a->codelike == codelike))
        {
            break;
        }
    }
    return end;
}

static void
release(activation *a)
{
    Py_XDECREF(a->locals);
    Py_XDECREF(a->globals);
    Py_XDECREF(a->frame);
    Py_XDECREF(a->below_frame);
    Py_DECREF(a->codelike);
}

int
_PyForeignFrames_CallLegacyTools(PyThreadState *tstate, PyFrameObject *frame,
                                 PyObject *codelike, PyObject *arg3,
                                 PyObject *arg4, uint32_t what)
{
    PyInterpreterState *interp = tstate->interp;
    int event = what >> 8;
    /* None of them wants the offset. */
    PyObject *args[] = {NULL, codelike, Py_None, arg3, arg4};
    size_t nargs = 2 + (arg3 != NULL) + (arg4 != NULL);
    int err = 0;
    for (int tool = PY_MONITORING_SYS_TRACE_ID;
         tool >= PY_MONITORING_SYS_PROFILE_ID && err == 0; tool--)
    {
        PyObject *handler = interp->monitoring_callables[tool][event];
        if (what >> tool & 1 && handler != NULL) {
            frames_of(tstate)->legacy_frame = frame;
            PyObject *res = PyObject_Vectorcall(
                handler, args + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                NULL);
            err = res == NULL ? -1 : 0;
            Py_XDECREF(res);
        }
    }
    return err;
}

/* Release an activation that is not among the thread's any more. */
static int
release_dropped(PyThreadState *tstate, activation *a)
{
    int err = 0;
    if (a->legacy_tools != 0 && a->frame != NULL) {
        /* They need a 'return' for each 'call'. */
        int what = stop_events(tstate);
        err = _PyForeignFrames_CallLegacyTools(
            tstate, a->frame, a->codelike, Py_None, NULL,
            PY_MONITORING_EVENT_PY_UNWIND << 8 | a->legacy_tools);
        allow_events(tstate, what);
    }
    release(a);
    return err;
}

/* Drop an activation whose end was not signaled. */
static int
drop(PyThreadState *tstate, Py_ssize_t i)
{
    foreign_frames *frames = frames_of(tstate);
    activation *place = activation_at(frames, i);
    activation a = *place;
    frames->num_activations--;
    frames->of_event = 0;
    if (i < frames->num_activations) {
        memmove(place, place + 1, (frames->num_activations - i) * sizeof(a));
    }
    return release_dropped(tstate, &a);
}

/* Drop the oldest ones that the frame called. */
static int
drop_oldest(PyThreadState *tstate, _PyInterpreterFrame *below, Py_ssize_t num)
{
    foreign_frames *frames = frames_of(tstate);
    activation *dropped = PyMem_New(activation, num);
    if (dropped == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t num_dropped = 0, num_kept = 0;
    for (Py_ssize_t i = 0; i < frames->num_activations; i++) {
        activation *a = activation_at(frames, i);
        if (a->below == below && num_dropped < num) {
            dropped[num_dropped++] = *a;
        }
        else {
            *activation_at(frames, num_kept++) = *a;
        }
    }
    frames->num_activations = num_kept;
    frames->of_event = 0;
    int err = 0;
    while (num_dropped > 0) {
        activation *a = &dropped[--num_dropped];
        if (err < 0) {
            a->legacy_tools = 0;
        }
        err |= release_dropped(tstate, a);
    }
    PyMem_Free(dropped);
    return err;
}

/* Drop what lives no more, from the given index on. */
static int
drop_dead(PyThreadState *tstate)
{
    foreign_frames *frames = frames_of(tstate);
    for (Py_ssize_t i = frames->num_activations; --i >= 0;) {
        if (i < frames->num_activations && !is_alive(activation_at(frames, i))
            && drop(tstate, i) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* How many activations a frame may have called that go on: more than C code can
   nest. */
#define MAX_CALLED 20000

static int
reserve(PyThreadState *tstate, _PyInterpreterFrame *below)
{
    foreign_frames *frames = frames_of(tstate);
    if (frames->num_activations < frames->allocated) {
        return 0;
    }
    if (drop_dead(tstate) < 0) {
        return -1;
    }
    /* Those of a producer that never signals an end, called in a loop. */
    Py_ssize_t num_called = 0;
    for (Py_ssize_t i = 0; i < frames->num_activations; i++) {
        num_called += activation_at(frames, i)->below == below;
    }
    if (num_called > MAX_CALLED
        && drop_oldest(tstate, below, num_called / 2) < 0)
    {
        return -1;
    }
    if (frames->num_activations < frames->allocated) {
        return 0;
    }
    Py_ssize_t allocated = frames->allocated * 2 + 8;
    struct _Py_activations *new = PyMem_Realloc(
        frames->activations,
        offsetof(struct _Py_activations, items)
        + allocated * sizeof(activation));
    if (new == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    frames->activations = new;
    frames->allocated = allocated;
    return 0;
}

/* Take the activations of a thread, which may be NULL, to release them. */
static struct _Py_activations *
take(foreign_frames *frames, struct _Py_activations *next)
{
    struct _Py_activations *taken = frames->activations;
    if (taken == NULL) {
        return next;
    }
    taken->next = next;
    taken->num_taken = frames->num_activations;
    frames->activations = NULL;
    frames->num_activations = 0;
    frames->of_event = 0;
    frames->allocated = 0;
    return taken;
}

static void
release_taken(struct _Py_activations *taken)
{
    while (taken != NULL) {
        struct _Py_activations *activations = taken;
        taken = activations->next;
        while (activations->num_taken > 0) {
            release(&activations->items[--activations->num_taken]);
        }
        PyMem_Free(activations);
    }
}

/* Return what the thread keeps.  The activations that it kept before the last
   tool was switched off are not known any more: how they went on was not seen.
   Another thread may not have dropped them yet. */
static foreign_frames *
current_frames(PyThreadState *tstate)
{
    foreign_frames *frames = frames_of(tstate);
    uint64_t times_unused = tstate->interp->times_frames_unused;
    if (frames->times_unused != times_unused) {
        frames->times_unused = times_unused;
        _PyForeignFrames_Clear(frames);
    }
    return frames;
}

/* Return the index of a new activation, or -1 with an exception set. */
static Py_ssize_t
enter(PyThreadState *tstate, _PyInterpreterFrame *below, PyObject *codelike)
{
    foreign_frames *frames = frames_of(tstate);
    PyFrameObject *below_frame = NULL;
    if (below != NULL) {
        below_frame = _PyFrame_GetFrameObject(below);
        if (below_frame == NULL) {
            return -1;
        }
    }
    if (reserve(tstate, below) < 0) {
        return -1;
    }
    frames->num_activations++;
    *activation_at(frames, frames->num_activations - 1) = (activation){
        .codelike = Py_NewRef(codelike),
        .below = below,
        .below_frame = (PyFrameObject *)Py_XNewRef(below_frame),
        .is_in_generator = below != NULL
                           && below->owner == FRAME_OWNED_BY_GENERATOR,
    };
    return frames->num_activations - 1;
}

/* Make the frame of an activation; what that runs may drop the activation. */
static PyFrameObject *
make_activation_frame(PyThreadState *tstate, activation *a)
{
    _PyInterpreterFrame *below = a->below;
    PyObject *codelike = Py_NewRef(a->codelike);
    PyObject *globals = Py_XNewRef(a->globals);
    PyObject *locals = Py_XNewRef(a->locals);
    PyObject *code = get_code(tstate, codelike);
    PyFrameObject *frame = code == NULL ? NULL
        : make_frame(tstate, (PyCodeObject *)code, below, globals, locals);
    Py_XDECREF(code);
    Py_XDECREF(locals);
    Py_XDECREF(globals);
    Py_DECREF(codelike);
    return frame;
}

/* Return the frame object of an activation, borrowed, made if need be.  Return
   NULL with an exception set on failure, and without one if the activation was
   dropped meanwhile. */
static PyFrameObject *
get_frame(PyThreadState *tstate, Py_ssize_t last)
{
    foreign_frames *frames = frames_of(tstate);
    if (activation_at(frames, last)->frame != NULL) {
        return activation_at(frames, last)->frame;
    }
    PyObject *codelike = Py_NewRef(activation_at(frames, last)->codelike);
    _PyInterpreterFrame *below = activation_at(frames, last)->below;
    PyObject *back = Py_XNewRef(activation_at(frames, last)->below_frame);
    PyFrameObject *frame = NULL;
    int what = stop_events(tstate);
    bool was_making_frame = frames->is_making_frame;
    frames->is_making_frame = true;
    /* From the newest that has one on, so that each has its f_back. */
    Py_ssize_t i = last;
    while (i > 0 && (activation_at(frames, i)->below != below
                     || !is_alive(activation_at(frames, i))
                     || activation_at(frames, i)->frame == NULL))
    {
        i--;
    }
    for (; i <= last; i++) {
        activation *a = activation_at(frames, i);
        if (a->below != below || !is_alive(a)) {
            continue;
        }
        if (a->frame == NULL) {
            frame = make_activation_frame(tstate, a);
            if (frame == NULL || last >= frames->num_activations
                || activation_at(frames, last)->codelike != codelike)
            {
                Py_CLEAR(frame);
                break;
            }
            a = activation_at(frames, i);
            if (a->frame == NULL) {
                frame->f_back = (PyFrameObject *)Py_XNewRef(back);
                a->frame = frame;
                set_place(frame, a->offset, a->lineno);
            }
            else {
                /* What the code-like ran has looked, too. */
                Py_DECREF(frame);
            }
        }
        frame = a->frame;
        Py_XSETREF(back, Py_NewRef(frame));
    }
    frames->is_making_frame = was_making_frame;
    allow_events(tstate, what);
    Py_XDECREF(back);
    Py_DECREF(codelike);
    return frame;
}

/* ------ Events ------ */

static inline _PyInterpreterFrame *
innermost_frame(PyThreadState *tstate)
{
    return _PyFrame_GetFirstComplete(tstate->current_frame);
}

/* The activation is at a new place. */
static void
move(activation *a, int offset, int lineno)
{
    a->offset = offset;
    if (lineno != 0) {
        a->lineno = lineno;
    }
    if (a->frame != NULL) {
        set_place(a->frame, offset, a->lineno);
    }
}

/* Return the index of the activation of the code-like that the frame called,
   entered late if need be; -1 with an exception set on failure. */
static Py_ssize_t
find_or_enter(PyThreadState *tstate, _PyInterpreterFrame *below,
              PyObject *codelike)
{
    foreign_frames *frames = current_frames(tstate);
    Py_ssize_t i = find_newest(frames, frames->num_activations, below,
                               codelike);
    return i >= 0 ? i : enter(tstate, below, codelike);
}

/* Find the activation of the event in find_or_enter()'s way, and drop those
   that must have ended.  Return a negative number without an exception if the
   event ends one that is not kept. */
static Py_NO_INLINE Py_ssize_t
select_activation(PyThreadState *tstate, _PyInterpreterFrame *below,
                  PyObject *codelike, int event)
{
    foreign_frames *frames = frames_of(tstate);
    while (frames->num_activations > 0
           && !is_alive(activation_at(frames, frames->num_activations - 1)))
    {
        if (drop(tstate, frames->num_activations - 1) < 0) {
            return -1;
        }
    }
    Py_ssize_t i = -1;
    while (!_PyForeignFrames_BEGINS(event)) {
        Py_ssize_t end = frames->num_activations;
        i = find_newest(frames, end, below, codelike);
        if (i < 0 && _PyForeignFrames_ENDS(event)) {
            return -1;
        }
        /* What it called has ended.  That is all if its own begin was not
           seen: it is older than those that were. */
        Py_ssize_t newest = find_newest(frames, end, below, NULL);
        if (newest == i) {
            break;
        }
        if (drop(tstate, newest) < 0) {
            return -1;
        }
    }
    return i >= 0 ? i : enter(tstate, below, codelike);
}

/* Do what _PyForeignFrames_Follow() does for any event. */
static Py_NO_INLINE PyFrameObject *
follow(PyThreadState *tstate, PyObject *codelike, int offset, int lineno,
       int event, uint8_t legacy_tools)
{
    foreign_frames *frames = current_frames(tstate);
    Py_ssize_t i = select_activation(tstate, innermost_frame(tstate), codelike,
                                     event);
    frames->of_event = i + 1;
    if (i < 0) {
        return NULL;
    }
    activation *a = activation_at(frames, i);
    move(a, offset, lineno);
    /* Other threads may use the tools. */
    if (tstate->c_tracefunc == NULL) {
        legacy_tools &= ~(1 << PY_MONITORING_SYS_TRACE_ID);
    }
    if (tstate->c_profilefunc == NULL) {
        legacy_tools &= ~(1 << PY_MONITORING_SYS_PROFILE_ID);
    }
    if (_PyForeignFrames_BEGINS(event)) {
        a->legacy_tools = legacy_tools;
        a->is_traced = legacy_tools >> PY_MONITORING_SYS_TRACE_ID & 1;
    }
    else if (_PyForeignFrames_ENDS(event)) {
        a->legacy_tools = 0;
    }
    if (legacy_tools == 0) {
        return NULL;
    }
    PyFrameObject *frame = get_frame(tstate, i);
    /* A debugger that came in mid-activation set it for the Python frames. */
    if (frame != NULL && frame->f_trace == NULL && frame->f_back != NULL
        && !activation_at(frames, i)->is_traced)
    {
        frame->f_trace = Py_XNewRef(frame->f_back->f_trace);
    }
    return frame;
}

PyFrameObject *
_PyForeignFrames_Follow(PyThreadState *tstate, PyObject *codelike, int offset,
                        int lineno, int event, uint8_t legacy_tools)
{
    /* Most events are those of the newest activation, called by the frame that
       runs. */
    foreign_frames *frames = frames_of(tstate);
    Py_ssize_t num = frames->num_activations;
    if (legacy_tools != 0 && num > 0
        && frames->times_unused == tstate->interp->times_frames_unused
        && !_PyForeignFrames_BEGINS(event))
    {
        activation *a = &frames->activations->items[num - 1];
        if (a->codelike == codelike && a->below == tstate->current_frame
            && is_alive(a) && a->frame != NULL && a->frame->f_trace != NULL)
        {
            frames->of_event = num;
            move(a, offset, lineno);
            if (_PyForeignFrames_ENDS(event)) {
                a->legacy_tools = 0;
            }
            return a->frame;
        }
    }
    return follow(tstate, codelike, offset, lineno, event, legacy_tools);
}

void
_PyForeignFrames_End(PyThreadState *tstate, PyObject *codelike)
{
    foreign_frames *frames = frames_of(tstate);
    Py_ssize_t i = frames->of_event - 1;
    if (i < 0) {
        i = find_newest(frames, frames->num_activations,
                        innermost_frame(tstate), codelike);
    }
    if (i >= 0) {
        PyObject *exc = PyErr_GetRaisedException();
        (void)drop(tstate, i);
        PyErr_SetRaisedException(exc);
    }
}

int
_PyForeignFrames_DropCalled(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    foreign_frames *frames = current_frames(tstate);
    for (Py_ssize_t i = frames->num_activations; --i >= 0;) {
        if (i < frames->num_activations
            && activation_at(frames, i)->below == frame
            && drop(tstate, i) < 0)
        {
            return -1;
        }
    }
    return 0;
}

void
_PyForeignFrames_Clear(foreign_frames *frames)
{
    release_taken(take(frames, NULL));
    Py_CLEAR(frames->namespaces);
}

static int
drop_unused(void *arg)
{
    PyInterpreterState *interp = arg;
    struct _Py_activations *taken = NULL;
    _PyEval_StopTheWorld(interp);
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *tstate = interp->threads.head; tstate != NULL;
         tstate = tstate->next)
    {
        foreign_frames *frames = frames_of(tstate);
        if (frames->times_unused != interp->times_frames_unused) {
            taken = take(frames, taken);
        }
    }
    HEAD_UNLOCK(&_PyRuntime);
    _PyEval_StartTheWorld(interp);
    release_taken(taken);
    return 0;
}

void
_PyForeignFrames_DropUnused(PyInterpreterState *interp)
{
    interp->times_frames_unused++;
    /* If too much is pending, they live as long as what called them. */
    (void)_PyEval_AddPendingCall(interp, drop_unused, interp, 0);
}

/* ------ Looks ------ */

static bool
is_callback_running(PyThreadState *tstate)
{
    foreign_frames *frames = frames_of(tstate);
    return frames->running_callback != NULL && frames->codelike != NULL;
}

static void
tag_callback(PyThreadState *tstate)
{
    foreign_frames *frames = frames_of(tstate);
    frames->running_callback = (PyObject *)(
        (uintptr_t)frames->running_callback | _Py_CALLBACK_LOOKED);
}

/* Return the index of the activation of the event whose callback runs, or -1
   with an exception set. */
static Py_ssize_t
find_of_event(PyThreadState *tstate)
{
    foreign_frames *frames = current_frames(tstate);
    assert(is_callback_running(tstate));
    if (frames->of_event > 0) {
        return frames->of_event - 1;
    }
    Py_ssize_t i = find_or_enter(
        tstate, _PyFrame_GetFirstComplete(frames->current_frame),
        frames->codelike);
    if (i >= 0) {
        tag_callback(tstate);
        move(activation_at(frames, i), frames->offset, frames->lineno);
    }
    return i;
}

int
_PyForeignFrames_KeepEvent(PyThreadState *tstate)
{
    int err = is_callback_running(tstate) && find_of_event(tstate) < 0 ? -1 : 0;
    /* What is fired next has one of its own, and takes its place. */
    frames_of(tstate)->of_event = 0;
    frames_of(tstate)->codelike = NULL;
    tag_callback(tstate);
    return err;
}

/* How often a frame is made anew because the activation was dropped, as is
   done when the last tool is switched off, in another thread perhaps.  The
   code object is kept: usually nothing is run the second time. */
#define MAX_ATTEMPTS 10

/* Return the frame of the event whose callback runs, borrowed, or NULL with an
   exception set. */
static PyFrameObject *
get_frame_of_event(PyThreadState *tstate)
{
    for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        Py_ssize_t i = find_of_event(tstate);
        if (i < 0) {
            return NULL;
        }
        PyFrameObject *frame = get_frame(tstate, i);
        if (frame != NULL || PyErr_Occurred()) {
            return frame;
        }
    }
    PyErr_Format(PyExc_RuntimeError, "%R has all frames dropped while one is "
                 "made for it", frames_of(tstate)->codelike);
    return NULL;
}

/* Return the innermost frame of the foreign code that the frame called and
   that has called back, as a new reference; NULL without an exception if there
   is none, and with one on failure.  The frame may be incomplete, and NULL. */
static PyFrameObject *
get_called_by(PyThreadState *tstate, _PyInterpreterFrame *current_frame)
{
    foreign_frames *frames = current_frames(tstate);
    if (is_callback_running(tstate)
        && frames->current_frame == current_frame
        && !frames->is_making_frame)
    {
        return (PyFrameObject *)Py_XNewRef(get_frame_of_event(tstate));
    }
    _PyInterpreterFrame *below = _PyFrame_GetFirstComplete(current_frame);
    Py_ssize_t i = frames->num_activations;
    do {
        i = find_newest(frames, i, below, NULL);
    } while (i >= 0 && frames->is_making_frame
             && activation_at(frames, i)->frame == NULL);
    return i < 0 ? NULL : (PyFrameObject *)Py_XNewRef(get_frame(tstate, i));
}

/* Return the frame of the foreign code that called the frame, as a new
   reference; NULL without an exception if there is none, and with one on
   failure. */
static PyFrameObject *
get_foreign_back(PyThreadState *tstate, PyFrameObject *frame)
{
    _PyInterpreterFrame *entry = frame->f_frame->previous;
    if (frame->f_back != NULL || entry == NULL
        || entry->owner != FRAME_OWNED_BY_CSTACK)
    {
        return NULL;
    }
    if (entry->previous == NULL) {
        /* Each thread has one of these. */
        _PyInterpreterFrame *oldest = tstate->current_frame;
        while (oldest != NULL && oldest->previous != NULL) {
            oldest = oldest->previous;
        }
        if (oldest != entry) {
            return NULL;
        }
    }
    return get_called_by(tstate, entry->previous);
}

static PyFrameObject *
get_python_back(PyFrameObject *frame)
{
    PyFrameObject *back = frame->f_back;
    if (back == NULL) {
        _PyInterpreterFrame *previous = _PyFrame_GetFirstComplete(
            frame->f_frame->previous);
        back = previous == NULL ? NULL : _PyFrame_GetFrameObject(previous);
    }
    return (PyFrameObject *)Py_XNewRef(back);
}

static PyFrameObject *
get_back(PyThreadState *tstate, PyFrameObject *frame)
{
    PyFrameObject *back = get_foreign_back(tstate, frame);
    return (back != NULL || PyErr_Occurred()) ? back : get_python_back(frame);
}

PyFrameObject *
_PyForeignFrames_GetBack(PyFrameObject *frame)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyFrameObject *back = get_foreign_back(_PyThreadState_GET(), frame);
    PyErr_SetRaisedException(exc);
    return back != NULL ? back : get_python_back(frame);
}

PyObject *
_PyForeignFrames_GetBackAttribute(PyFrameObject *frame)
{
    PyFrameObject *back = get_back(_PyThreadState_GET(), frame);
    if (back == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return (PyObject *)back;
}

PyFrameObject *
_PyForeignFrames_GetFrame(PyThreadState *tstate, int depth)
{
    PyFrameObject *frame = get_called_by(tstate, tstate->current_frame);
    if (frame == NULL && !PyErr_Occurred()) {
        _PyInterpreterFrame *innermost = innermost_frame(tstate);
        frame = innermost == NULL ? NULL
            : (PyFrameObject *)Py_XNewRef(_PyFrame_GetFrameObject(innermost));
    }
    while (frame != NULL && depth > 0) {
        Py_SETREF(frame, get_back(tstate, frame));
        depth--;
    }
    return frame;
}

bool
_PyForeignFrames_IsRunning(PyThreadState *tstate, PyFrameObject *frame)
{
    bool is_running = false;
    PyInterpreterState *interp = tstate->interp;
    (void)current_frames(tstate);
    _PyEval_StopTheWorld(interp);
    HEAD_LOCK(&_PyRuntime);
    for (PyThreadState *t = interp->threads.head; t != NULL; t = t->next) {
        foreign_frames *frames = frames_of(t);
        for (Py_ssize_t i = 0; i < frames->num_activations; i++) {
            activation *a = activation_at(frames, i);
            if (a->frame == frame) {
                is_running = t != tstate || is_alive(a);
            }
        }
    }
    HEAD_UNLOCK(&_PyRuntime);
    _PyEval_StartTheWorld(interp);
    return is_running;
}

/* ------ What producers say ------ */

int
_PyForeignFrames_SetNamespaces(PyThreadState *tstate, PyObject *codelike,
                               PyObject *globals, PyObject *locals)
{
    _PyInterpreterFrame *below = innermost_frame(tstate);
    Py_ssize_t i = find_or_enter(tstate, below, codelike);
    if (i < 0) {
        return -1;
    }
    foreign_frames *frames = frames_of(tstate);
    PyFrameObject *frame = activation_at(frames, i)->frame;
    if (frame != NULL) {
        int err = 0;
        PyObject *namespaces = NULL;
        Py_INCREF(frame);
        int what = stop_events(tstate);
        if (globals != NULL) {
            namespaces = make_namespaces(tstate, globals);
            err = namespaces == NULL ? -1 : 0;
        }
        if (err == 0 && locals != NULL) {
            err = set_locals(frame, locals);
        }
        allow_events(tstate, what);
        if (err < 0) {
            Py_XDECREF(namespaces);
            Py_DECREF(frame);
            return -1;
        }
        if (namespaces != NULL) {
            set_namespaces(frame->f_frame, namespaces);
        }
        Py_DECREF(frame);
        /* What was run can have dropped the activation. */
        i = find_newest(frames, frames->num_activations, below, codelike);
        if (i < 0) {
            return 0;
        }
    }
    activation *a = activation_at(frames, i);
    PyObject *old_globals = NULL, *old_locals = NULL;
    if (globals != NULL) {
        old_globals = a->globals;
        a->globals = Py_NewRef(globals);
    }
    if (locals != NULL) {
        old_locals = a->locals;
        a->locals = Py_NewRef(locals);
    }
    Py_XDECREF(old_globals);
    Py_XDECREF(old_locals);
    return 0;
}

static bool
has_place(PyObject *code, int offset, int lineno)
{
    return has_unit((PyCodeObject *)code, offset)
        && (lineno == 0
            || PyCode_Addr2Line((PyCodeObject *)code, offset) == lineno);
}

/* Return the code object of a code-like that is none for a traceback entry, a
   new reference; or another one that has the place, which becomes that. */
static Py_NO_INLINE PyObject *
get_traceback_code(PyThreadState *tstate, PyObject *codelike, int *offset,
                   int *lineno, bool *is_own)
{
    PyObject *filename = NULL;
    PyCodeLocation location = {-1, -1, -1, -1};
    if (_PyCodeLike_GetLocation(codelike, *offset, &filename, &location) < 0) {
        /* The offset means something else to this producer. */
        PyErr_Clear();
        location = (PyCodeLocation){-1, -1, -1, -1};
    }
    if (*lineno == 0 && location.lineno > 0) {
        *lineno = location.lineno;
    }
    bool has_columns = location.col_offset >= 0
                       && *lineno == location.lineno;
    PyObject *code = get_code(tstate, codelike);
    if (code != NULL && filename != NULL
        && ((has_columns && !has_place(code, *offset, *lineno))
            || PyUnicode_Compare(filename,
                                 ((PyCodeObject *)code)->co_filename) != 0))
    {
        if (!has_columns) {
            int line = *lineno == 0 ? -1 : *lineno;
            location = (PyCodeLocation){line, line, -1, -1};
        }
        Py_SETREF(code, _PyCodeLike_NewCode(codelike, filename, &location));
        *offset = 0;
        *is_own = false;
    }
    Py_XDECREF(filename);
    return code;
}

/* Return the traceback of an exception with one more entry, a new reference. */
static PyObject *
make_traceback(PyThreadState *tstate, PyObject *exc, PyObject *codelike,
               int offset, int lineno)
{
    _PyInterpreterFrame *below = innermost_frame(tstate);
    bool is_own = true;
    PyObject *code = PyCode_Check(codelike) ? get_code(tstate, codelike)
        : get_traceback_code(tstate, codelike, &offset, &lineno, &is_own);
    if (code == NULL) {
        return NULL;
    }
    /* What was run till here can have dropped any. */
    foreign_frames *frames = current_frames(tstate);
    Py_ssize_t i = find_newest(frames, frames->num_activations, below,
                               codelike);
    PyFrameObject *frame = NULL;
    PyObject *tb = NULL;
    if (is_own && i >= 0) {
        activation_at(frames, i)->offset = offset;
        frame = (PyFrameObject *)Py_XNewRef(get_frame(tstate, i));
        if (frame == NULL && PyErr_Occurred()) {
            goto done;
        }
    }
    if (frame == NULL) {
        frame = make_frame(tstate, (PyCodeObject *)code, below, NULL, NULL);
        if (frame == NULL) {
            goto done;
        }
    }
    set_place(frame, offset, lineno);
    tb = _PyTraceBack_FromFrame(((PyBaseExceptionObject *)exc)->traceback,
                                frame);
    Py_DECREF(frame);
    if (tb != NULL) {
        PyTracebackObject *entry = (PyTracebackObject *)tb;
        if (lineno != 0) {
            /* Otherwise it is worked out when somebody asks. */
            entry->tb_lineno = lineno;
        }
        if (entry->tb_lasti < 0
            || (lineno != 0 && !has_place(code, offset, lineno)))
        {
            entry->tb_lasti = -1;
        }
    }
done:
    Py_DECREF(code);
    return tb;
}

int
_PyForeignFrames_AddTraceback(PyThreadState *tstate, PyObject *codelike,
                              int offset, int lineno)
{
    PyObject *exc = tstate->current_exception;
    if (exc == NULL) {
        PyErr_SetString(PyExc_SystemError,
                        "PyMonitoring_AddTraceback() needs an exception that "
                        "is set");
        return -1;
    }
    tstate->current_exception = NULL;
    int what = stop_events(tstate);
    PyObject *tb = make_traceback(tstate, exc, codelike, offset,
                                  Py_MAX(lineno, 0));
    allow_events(tstate, what);
    if (tb == NULL) {
        PyErr_SetRaisedException(exc);
        return -1;
    }
    tstate->current_exception = exc;
    Py_XSETREF(((PyBaseExceptionObject *)exc)->traceback, tb);
    return 0;
}
