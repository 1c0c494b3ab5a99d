#ifndef Py_INTERNAL_FOREIGNFRAMES_H
#define Py_INTERNAL_FOREIGNFRAMES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* The frames of code that is not bytecode.

   A thread keeps an entry for each activation of foreign code that somebody
   may look at, the newest last.  What is between two entries, or an entry and
   the Python frame below it, is known by the Python frame: the innermost one
   when the activation began.  An entry lives while that frame does.  A frame
   object is made when somebody looks, and never linked into the thread's
   chain of frames: sys._getframe() and f_back ask here, in callbacks of
   monitoring tools alone. */

struct _PyInterpreterFrame;

/* An activation.  All references to objects are strong, and may be NULL but the
   first. */
struct _Py_activation {
    PyObject *codelike;
    PyFrameObject *frame;
    struct _PyInterpreterFrame *below;
    PyFrameObject *below_frame;     /* the object of `below` */
    PyObject *globals;              /* what the producer says of them */
    PyObject *locals;
    int offset;
    int lineno;                     /* of the last LINE event, or 0 */
    uint8_t legacy_tools;           /* that got 'call', and no 'return' yet */
    bool is_traced;                 /* sys.settrace()'s function got 'call' */
    bool is_in_generator;           /* the Python frame is that of one */
};

struct _Py_activations {
    struct _Py_activations *next;   /* when taken from their threads, with */
    Py_ssize_t num_taken;           /* how many there were */
    struct _Py_activation items[1];
};

/* What a thread knows. */
struct _Py_foreign_frames {
    struct _Py_activations *activations;    /* NULL before the first one */
    Py_ssize_t num_activations;
    Py_ssize_t allocated;
    uint64_t times_unused;      /* the interpreter's, when they were kept */
    /* One more than the index of the activation of the event whose callback
       runs, if activations are kept and its own is known; otherwise 0. */
    Py_ssize_t of_event;
    /* Of the event that a legacy tool is called for, borrowed. */
    PyFrameObject *legacy_frame;
    bool is_making_frame;       /* code-likes are asked for what it shows */
    /* Those of a frame that was made: (globals, builtins, __file__, __name__),
       or NULL. */
    PyObject *namespaces;
    /* The callback for an event of foreign code that runs, or NULL.  Its lowest
       bits are tags, _Py_CALLBACK_LOOKED and one of the owner's. */
    PyObject *running_callback;
    /* Where __name__ was found last: in keys of that version, unless 0. */
    Py_ssize_t name_index;
    uint32_t keys_version;
    /* The event whose callback runs, or ran last.  The code-like is borrowed
       from the producer, and NULL if there is no such event. */
    PyObject *codelike;
    struct _PyInterpreterFrame *current_frame;
    int offset;
    int lineno;                     /* of LINE, or 0 */
};

/* tstate->what_event while a callback for such an event runs.  Negative values
   keep f_lineno from being set: no Python frame is at the event. */
#define _Py_FOREIGN_EVENT (-2)

/* In running_callback: the callback looked at the frame of its event, for which
   an activation is kept since then. */
#define _Py_CALLBACK_LOOKED 2

/* Whether an event begins or ends an activation. */
#define _PyForeignFrames_BEGINS(EVENT)                                      \
    ((1 << (EVENT)) & (1 << PY_MONITORING_EVENT_PY_START                    \
                       | 1 << PY_MONITORING_EVENT_PY_RESUME                 \
                       | 1 << PY_MONITORING_EVENT_PY_THROW))
#define _PyForeignFrames_ENDS(EVENT)                                        \
    ((1 << (EVENT)) & (1 << PY_MONITORING_EVENT_PY_RETURN                   \
                       | 1 << PY_MONITORING_EVENT_PY_YIELD                  \
                       | 1 << PY_MONITORING_EVENT_PY_UNWIND))

/* An event is fired, and activations are kept: find or make its own, and drop
   those that must have ended.  Return its frame, borrowed, if legacy tools are to
   be called; NULL if not, or with an exception set on failure. */
extern PyFrameObject *_PyForeignFrames_Follow(
    PyThreadState *tstate, PyObject *codelike, int offset, int lineno,
    int event, uint8_t legacy_tools);

/* Call legacy tools for an event but LINE, sys.settrace()'s function first.  arg3
   and arg4 are those of its callbacks; `what` is the event << 8 and the tools.
   No event may be let through. */
extern int _PyForeignFrames_CallLegacyTools(
    PyThreadState *tstate, PyFrameObject *frame, PyObject *codelike,
    PyObject *arg3, PyObject *arg4, uint32_t what);

/* An event that ends an activation has been fired: drop it. */
extern void _PyForeignFrames_End(PyThreadState *tstate, PyObject *codelike);

/* A Python frame runs bytecode, so all that it called has ended. */
extern int _PyForeignFrames_DropCalled(PyThreadState *tstate,
                                       struct _PyInterpreterFrame *frame);

/* Drop all activations of a thread. */
extern void _PyForeignFrames_Clear(struct _Py_foreign_frames *frames);

/* No tool is in use any more: drop all activations of the interpreter's
   threads.  They are not known any more, and released soon.  The world may be
   stopped. */
extern void _PyForeignFrames_DropUnused(PyInterpreterState *interp);

/* Keep the activation of the event whose callback runs. */
extern int _PyForeignFrames_KeepEvent(PyThreadState *tstate);

/* Whether the thread may see a foreign frame, and one that called the frame: to
   be asked before the three functions below, so that looks at Python code cost
   what they did.  Macros, because the thread state is declared later. */
#define _PyForeignFrames_OF(TSTATE)                                         \
    (&((_PyThreadStateImpl *)(TSTATE))->foreign_frames)
#define _PyForeignFrames_MAY_BE_SEEN(TSTATE)                                \
    (((uintptr_t)_PyForeignFrames_OF(TSTATE)->running_callback              \
      | _PyForeignFrames_OF(TSTATE)->num_activations) && (TSTATE)->tracing)
#define _PyForeignFrames_MAY_BE_BACK(FRAME)                                 \
    ((FRAME)->f_frame->previous != NULL                                     \
     && (FRAME)->f_frame->previous->owner == FRAME_OWNED_BY_CSTACK          \
     && _PyForeignFrames_MAY_BE_SEEN(_PyThreadState_GET()))

/* Do what PyFrame_GetBack() does.  Its callers expect no exception, and may
   have one set: a frame that cannot be made is left out. */
extern PyFrameObject *_PyForeignFrames_GetBack(PyFrameObject *frame);

/* Return a frame's f_back, which may be None, or NULL with an exception set. */
extern PyObject *_PyForeignFrames_GetBackAttribute(PyFrameObject *frame);

/* Do what sys._getframe() does where there may be foreign frames.  Return a new
   reference, or NULL without an exception if there is no frame. */
extern PyFrameObject *_PyForeignFrames_GetFrame(PyThreadState *tstate,
                                                int depth);

/* Whether an interpreter's frame is foreign: a tuple with its namespaces is in
   the place of its function. */
#define _PyForeignFrames_IS_FOREIGN(FRAME)                                  \
    ((FRAME)->owner == FRAME_OWNED_BY_FRAME_OBJECT                          \
     && (FRAME)->f_funcobj != NULL && PyTuple_CheckExact((FRAME)->f_funcobj))

/* A frame's line, if the code object says LINE, or -1, of its place. */
#define _PyForeignFrames_LINE(FRAME, LINE)                                  \
    ((LINE) < 0 && _PyForeignFrames_IS_FOREIGN(FRAME)                       \
     ? _PyFrame_GetCode(FRAME)->co_firstlineno : (LINE))

/* The index of a frame's code unit. */
#define _PyForeignFrames_LASTI(FRAME)                                       \
    (_PyForeignFrames_IS_FOREIGN((FRAME)->f_frame)                          \
     ? _PyForeignFrames_GetUnit(FRAME)                                      \
     : _PyInterpreterFrame_LASTI((FRAME)->f_frame))

/* Return the index of the code unit of a foreign frame: that of its offset, if
   that is one of the code object, and its location agrees with the line. */
extern int _PyForeignFrames_GetUnit(PyFrameObject *frame);

/* Return whether a foreign frame is that of an activation that goes on. */
extern bool _PyForeignFrames_IsRunning(PyThreadState *tstate,
                                       PyFrameObject *frame);

/* What the producer says of its variables. */
extern int _PyForeignFrames_SetNamespaces(
    PyThreadState *tstate, PyObject *codelike, PyObject *globals,
    PyObject *locals);

/* Add an entry to the traceback of the exception that is set. */
extern int _PyForeignFrames_AddTraceback(
    PyThreadState *tstate, PyObject *codelike, int offset, int lineno);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_FOREIGNFRAMES_H */
