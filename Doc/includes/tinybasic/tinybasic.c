/* tinybasic: an interpreter of Tiny BASIC that signals what the BASIC program
 * does as events of sys.monitoring.
 *
 * It is an example of a producer.  The part to copy from is its first section,
 * "The producer", from the marker [events] to [call end]: the events, the
 * locations, the scope, and what is fired in it.  The rest is a small
 * interpreter, which works on the text of the program.  The same code checks
 * each statement when the program is loaded and runs it later.
 *
 * How BASIC maps to events:
 * - The main program and each target of a GOSUB are code-likes, and each time
 *   that one runs is a scope.
 * - Each statement is a location.  A line has one statement, or two: an IF, and
 *   the statement after its THEN.
 */

#include "Python.h"
#include "frameobject.h"        /* PyFrame_New() */
#include <stddef.h>

#if PY_VERSION_HEX < 0x030D0000
/* What 3.12 lacks, beside pymonitoring_compat.h. */
#define PyEval_GetFrameBuiltins() Py_XNewRef(PyEval_GetBuiltins())

static int
PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **value)
{
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}
#endif

#define MAX_LINENO 65535
#define MAX_LEVEL 5             /* of operators */
#define MAX_NESTING 100         /* of an expression: bounds the C stack */

typedef struct {
    PyObject *error;            /* tinybasic.Error */
    PyTypeObject *program_type;
} module_state;

typedef struct {
    int number;                 /* of its line */
    int is_after_then;          /* and begins no line */
    const char *text;
    PyObject *code;             /* the code-like that starts here, if one does;
                                   the first one's is the main program */
    PyObject *variable;         /* FOR */
    int32_t jump;               /* FOR: its NEXT.  NEXT: its FOR */
} Statement;

/* [events] */
/* The events that a scope may fire, and the place of each in a state array. */
enum {
    ON_PY_START, ON_PY_RETURN, ON_PY_UNWIND, ON_LINE, ON_JUMP, ON_BRANCH,
    ON_CALL, ON_C_RETURN, ON_C_RAISE, ON_RAISE, N_EVENTS
};

static const uint8_t event_types[N_EVENTS] = {
    [ON_PY_START] = PY_MONITORING_EVENT_PY_START,
    [ON_PY_RETURN] = PY_MONITORING_EVENT_PY_RETURN,
    [ON_PY_UNWIND] = PY_MONITORING_EVENT_PY_UNWIND,
    [ON_LINE] = PY_MONITORING_EVENT_LINE,
    [ON_JUMP] = PY_MONITORING_EVENT_JUMP,
    [ON_BRANCH] = PY_MONITORING_EVENT_BRANCH,
    [ON_CALL] = PY_MONITORING_EVENT_CALL,
    [ON_C_RETURN] = PY_MONITORING_EVENT_C_RETURN,
    [ON_C_RAISE] = PY_MONITORING_EVENT_C_RAISE,
    [ON_RAISE] = PY_MONITORING_EVENT_RAISE,
};
/* [events end] */

typedef struct {
    PyObject_HEAD
    module_state *state;
    PyObject *source;
    PyObject *filename;
    Statement *statements;
    PyCodeLocation *locations;  /* of the statements, and of the end */
    PyObject *offsets;          /* Python ints, one for each location */
    int32_t length;             /* of the statements */
    PyObject *subroutines;      /* the code-likes, first the main program */
    uint64_t version;           /* 0: never entered */
    PyMonitoringState states[N_EVENTS];
} Program;

typedef struct {
    long long value;
    long long step;             /* 0: not begun */
    unsigned long long further; /* how many times the loop still goes around */
} Loop;

/* What one run() needs, or the check of a new program. */
typedef struct {
    Program *program;
    int is_check;               /* nothing has an effect */
    PyObject *functions;
    PyObject *input;
    PyObject *output;
    PyObject *variables;        /* "A", "A(7)", and "A(": the last of A */
    Loop *loops;                /* by the FOR's index */
    int is_looping;             /* NEXT has gone to FOR */
    int32_t open_for;           /* check: the last FOR that has no NEXT yet */
    PyObject *code;             /* the code-like of the innermost scope ... */
    int32_t at;                 /* ... the statement that it is at ... */
    int32_t next_at;            /* ... and the one that it runs next */
    int depth;                  /* of GOSUB */
    int is_returning;
    int is_ending;
    int nesting;                /* of the expression */
    int token;
    const char *start;          /* of the token */
    const char *next;           /* what follows it */
} Run;


/* --- The producer ------------------------------------------------------- */

/* [code-like] */
/* Make what tools get where Python code passes its code object: one as well,
 * which never runs, but has the name, the file and the locations.  GOTO goes
 * where it likes, so that any statement may be part of any subroutine: each
 * has them all, and PyCode_LOCATION_OFFSET(i) is statement i in each. */
static PyObject *
new_subroutine(Program *program, PyObject *name, int32_t first)
{
    return PyCode_NewWithLocations(
        program->filename, name, NULL, program->locations[first].lineno,
        program->locations, program->length + 1);
}

/* The location of the next statement: in the file, whatever number the line
 * begins with.  A statement after THEN is within the location of its IF. */
static void
set_location(Program *program, int lineno, const char *line, const char *text)
{
    const char *end = text + strcspn(text, "\n");
    while (end > text && Py_ISSPACE(end[-1])) {
        end--;
    }
    program->locations[program->length] = (PyCodeLocation){
        .lineno = lineno,
        .end_lineno = lineno,               /* the last line, not one more */
        .col_offset = (int)(text - line),   /* in bytes of UTF-8 */
        .end_col_offset = (int)(end - line),    /* behind the last byte */
    };
}
/* [code-like end] */

static int run_next_statement(Run *run);

/* [scope] */
/* Run the main program, or a subroutine up to its RETURN.
 *
 * All subroutines share the states: these say what tools want, not where the
 * code is.  They are kept with the program because it is entered again and
 * again: as long as no tool changes anything, EnterScope sees by the version
 * that there is nothing to do.  They must not be static: states belong to one
 * interpreter, as the program does. */
static int
run_scope(Run *run, int32_t first)
{
    PyMonitoringState *states = run->program->states;
    PyObject *caller = run->code, *code = run->program->statements[first].code;
    int32_t caller_at = run->at;

    if (PyMonitoring_EnterScope(states, &run->program->version,
                                event_types, N_EVENTS) < 0)
    {
        return -1;
    }
    run->code = code;
    run->at = run->next_at = first;
    int result = PyMonitoring_FirePyStartEvent(
        &states[ON_PY_START], code, PyCode_LOCATION_OFFSET(first));
    if (result == 0) {
        /* For debuggers.  All variables of BASIC are global; f_globals stays
         * what the interpreter makes of it. */
        result = PyMonitoring_SetFrameNamespaces(
            &states[ON_PY_START], code, NULL, run->variables);
    }
    while (result == 0 && !run->is_returning && !run->is_ending) {
        result = run_next_statement(run);
    }
    run->is_returning = 0;
    int32_t offset = PyCode_LOCATION_OFFSET(run->at);
    if (result == 0) {
        result = PyMonitoring_FirePyReturnEvent(&states[ON_PY_RETURN], code,
                                                offset, Py_None);
    }
    if (result < 0) {
        /* Like Python code, each scope that an exception goes through reports
         * it.  If a callback raises, its exception replaces the pending one,
         * and this statement is where that one comes from. */
        (void)PyMonitoring_AddTraceback(code, offset, 0);
        if (PyMonitoring_FireRaiseEvent(&states[ON_RAISE], code, offset) < 0) {
            (void)PyMonitoring_AddTraceback(code, offset, 0);
        }
        if (PyMonitoring_FirePyUnwindEvent(&states[ON_PY_UNWIND], code,
                                           offset) < 0)
        {
            (void)PyMonitoring_AddTraceback(code, offset, 0);
        }
    }
    run->code = caller;
    run->at = caller_at;
    run->next_at = caller_at + 1;
    PyMonitoring_ExitScope();
    return result;
}
/* [scope end] */

/* [line] */
/* Called whenever a line is begun, each time around a loop too.  It is not
 * begun again after THEN, nor when a GOSUB or a CALL in it is over. */
static int
fire_line(Run *run)
{
    Program *program = run->program;
    /* A scope may last: entering it once more, which costs next to nothing,
     * lets tools in that came after it began.  One ExitScope stays enough. */
    if (PyMonitoring_EnterScope(program->states, &program->version,
                                event_types, N_EVENTS) < 0)
    {
        return -1;
    }
    return PyMonitoring_FireLineEvent(
        &program->states[ON_LINE], run->code, PyCode_LOCATION_OFFSET(run->at),
        program->locations[run->at].lineno);
}
/* [line end] */

/* [jump] */
/* The targets are objects made when the program was loaded: nothing is to be
 * paid for an event that no tool wants. */
static int
jump_to(Run *run, int32_t target)
{
    run->next_at = target;
    return PyMonitoring_FireJumpEvent(
        &run->program->states[ON_JUMP], run->code,
        PyCode_LOCATION_OFFSET(run->at),
        PyTuple_GET_ITEM(run->program->offsets, target));
}

/* Fired whichever way a decision went; the target says which. */
static int
branch_to(Run *run, int32_t target)
{
    run->next_at = target;
    return PyMonitoring_FireBranchEvent(
        &run->program->states[ON_BRANCH], run->code,
        PyCode_LOCATION_OFFSET(run->at),
        PyTuple_GET_ITEM(run->program->offsets, target));
}
/* [jump end] */

/* [call] */
/* Fires CALL before the call, and C_RETURN or C_RAISE after it unless callable
 * is written in Python.  A GOSUB calls nothing of Python's: its PY_START is
 * all that it takes. */
static PyObject *
call(Run *run, PyObject *callable, PyObject *args)
{
    PyMonitoringState *states = run->program->states;
    return PyMonitoring_Vectorcall(
        &states[ON_CALL], &states[ON_C_RETURN], &states[ON_C_RAISE],
        run->code, PyCode_LOCATION_OFFSET(run->at), callable,
        PySequence_Fast_ITEMS(args), PyTuple_GET_SIZE(args), NULL);
}
/* [call end] */


/* --- Tokens ------------------------------------------------------------- */

/* Any other character is a token of its own.  From T_LE on, they are in the
 * order of the words. */
enum {
    T_EOL, T_NUMBER = 256, T_STRING, T_NAME, T_LE, T_GE, T_NE, T_AND, T_CALL,
    T_DIM, T_END, T_FOR, T_GOSUB, T_GOTO, T_IF, T_INPUT, T_INTO, T_LET, T_MOD,
    T_NEXT, T_OR, T_PRINT, T_REM, T_RETURN, T_STEP, T_THEN, T_TO
};

static const char *const words[] = {
    "<=", ">=", "<>", "AND", "CALL", "DIM", "END", "FOR", "GOSUB", "GOTO",
    "IF", "INPUT", "INTO", "LET", "MOD", "NEXT", "OR", "PRINT", "REM",
    "RETURN", "STEP", "THEN", "TO"
};

static void
next_token(Run *run)
{
    const char *p = run->next + strspn(run->next, " \t\r");
    run->start = p;
    if (*p == '\0' || *p == '\n') {
        run->token = T_EOL;
    }
    else if (Py_ISDIGIT(*p)) {
        run->token = T_NUMBER;
        p += strspn(p, "0123456789");
    }
    else if (Py_ISALPHA(*p)) {
        run->token = T_NAME;
        while (Py_ISALNUM(*p)) {
            p++;
        }
        p += *p == '$';
    }
    else if (*p == '"' && p[1 + strcspn(p + 1, "\"\n")] == '"') {
        run->token = T_STRING;
        p += 2 + strcspn(p + 1, "\"");
    }
    else {
        run->token = (unsigned char)*p++;
        while ((*p & 0xC0) == 0x80) {
            p++;    /* the rest of a character in UTF-8 */
        }
    }
    run->next = p;
    for (int i = 0; i < (int)Py_ARRAY_LENGTH(words); i++) {
        size_t length = strlen(words[i]);
        if (strncmp(run->start, words[i], length) == 0
            && (i < T_AND - T_LE || run->next == run->start + length))
        {
            run->token = T_LE + i;
            run->next = run->start + length;
        }
    }
}

/* Raise tinybasic.Error, which names the line. */
static void *
fail(Run *run, const char *format, ...)
{
    Program *program = run->program;
    va_list args;
    va_start(args, format);
    PyObject *what = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (what != NULL) {
        PyErr_Format(program->state->error, "%U, line %d: %U",
                     program->filename, program->locations[run->at].lineno,
                     what);
        Py_DECREF(what);
    }
    return NULL;
}

static void *
unexpected(Run *run, const char *wanted)
{
    if (run->token == T_EOL) {
        return fail(run, "expected %s at the end of the line", wanted);
    }
    return fail(run, "expected %s at '%.*s'", wanted,
                (int)(run->next - run->start), run->start);
}

static int
accept(Run *run, int token)
{
    int result = run->token == token;
    if (result) {
        next_token(run);
    }
    return result;
}

static int
expect(Run *run, int token, const char *what)
{
    if (!accept(run, token)) {
        unexpected(run, what);
        return -1;
    }
    return 0;
}


/* --- Expressions -------------------------------------------------------- */

/* Numbers are Python ints of at most 64 bits, strings Python strs. */

/* Make a value of BASIC out of what Python has computed.  Steals the reference
 * and passes NULL through.  An instance of a subclass is replaced, since it
 * may compute in ways of its own. */
static PyObject *
to_value(Run *run, PyObject *object, int is_string)
{
    PyObject *result = NULL;
    int overflow;
    if (object == NULL) {
        return NULL;
    }
    if (is_string && PyUnicode_Check(object)) {
        result = PyUnicode_FromObject(object);
    }
    else if (!is_string && PyLong_Check(object)) {
        long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
        result = overflow ? fail(run, "the number does not fit in 64 bits")
                          : PyLong_FromLongLong(number);
    }
    else {
        fail(run, "expected a %s, not %s", is_string ? "string" : "number",
             Py_TYPE(object)->tp_name);
    }
    Py_DECREF(object);
    return result;
}

static PyObject *evaluate(Run *run, int level);

/* Evaluate a whole expression, which must be a number. */
static int
evaluate_number(Run *run, long long *number)
{
    PyObject *value = to_value(run, evaluate(run, 1), 0);
    if (value == NULL) {
        return -1;
    }
    *number = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return 0;
}

/* NAME or NAME(index): the name under which the value is kept. */
static PyObject *
parse_variable(Run *run)
{
    PyObject *name = PyUnicode_FromStringAndSize(run->start,
                                                 run->next - run->start);
    PyObject *array = NULL;
    long long index;
    if (expect(run, T_NAME, "a variable") < 0) {
        Py_CLEAR(name);
    }
    else if (accept(run, '(')) {
        array = PyUnicode_FromFormat("%U(", name);
        Py_CLEAR(name);
        if (evaluate_number(run, &index) == 0
            && expect(run, ')', "')'") == 0)
        {
            name = PyUnicode_FromFormat("%U%lld)", array, index);
        }
    }
    if (name != NULL && array != NULL && !run->is_check) {
        PyObject *last = PyDict_GetItemWithError(run->variables, array);
        if (last == NULL || index < 0 || index > PyLong_AsLongLong(last)) {
            fail(run, "%U is not in a DIM", name);
            Py_CLEAR(name);
        }
    }
    Py_XDECREF(array);
    return name;
}

static int
is_string(PyObject *name)
{
    return PyUnicode_FindChar(name, '$', 0, PyUnicode_GET_LENGTH(name), 1) > 0;
}

/* Steals both references, and passes a value of NULL through. */
static int
set(Run *run, PyObject *name, PyObject *value)
{
    value = to_value(run, value, is_string(name));
    int result = value == NULL ? -1 : run->is_check ? 0
                 : PyDict_SetItem(run->variables, name, value);
    Py_DECREF(name);
    Py_XDECREF(value);
    return result;
}

static PyObject *
operand(Run *run)
{
    const char *start = run->start, *end = run->next;
    PyObject *value = NULL, *name;
    if (accept(run, T_NUMBER)) {
        /* Too large a number gives ULLONG_MAX, which is too large, too. */
        value = PyLong_FromUnsignedLongLong(strtoull(start, NULL, 10));
        return to_value(run, value, 0);
    }
    if (accept(run, T_STRING)) {
        return PyUnicode_FromStringAndSize(start + 1, end - start - 2);
    }
    if (accept(run, '(')) {
        value = evaluate(run, 1);
        if (value != NULL && expect(run, ')', "')'") < 0) {
            Py_CLEAR(value);
        }
        return value;
    }
    if (accept(run, '-')) {
        value = to_value(run, evaluate(run, MAX_LEVEL + 1), 0);
        if (value != NULL) {
            Py_SETREF(value, PyNumber_Negative(value));
        }
        return to_value(run, value, 0);
    }
    if (run->token != T_NAME) {
        return unexpected(run, "a value");
    }
    name = parse_variable(run);
    if (name == NULL
        || (!run->is_check
            && PyDict_GetItemRef(run->variables, name, &value) < 0))
    {
        Py_XDECREF(name);
        return NULL;
    }
    if (value == NULL) {
        value = is_string(name) ? PyUnicode_FromString("")
                                : PyLong_FromLong(0);
    }
    Py_DECREF(name);
    return value;
}

/* A higher level binds tighter.  Without a function it is a comparison. */
static const struct {
    int token, level;
    binaryfunc function;
    int comparison;
} operators[] = {
    {T_OR, 1, PyNumber_Or, 0}, {T_AND, 2, PyNumber_And, 0},
    {'=', 3, NULL, Py_EQ}, {T_NE, 3, NULL, Py_NE}, {'<', 3, NULL, Py_LT},
    {T_LE, 3, NULL, Py_LE}, {'>', 3, NULL, Py_GT}, {T_GE, 3, NULL, Py_GE},
    {'+', 4, PyNumber_Add, 0}, {'-', 4, PyNumber_Subtract, 0},
    {'*', MAX_LEVEL, PyNumber_Multiply, 0},
    {'/', MAX_LEVEL, PyNumber_FloorDivide, 0},
    {T_MOD, MAX_LEVEL, PyNumber_Remainder, 0},
};

static PyObject *
operate(Run *run, int i, PyObject *left, PyObject *right)
{
    binaryfunc function = operators[i].function;
    int strings = PyUnicode_Check(left) + PyUnicode_Check(right);
    if (strings == 1) {
        return fail(run, "a number and a string do not mix");
    }
    if (function == NULL) {
        return PyObject_RichCompare(left, right, operators[i].comparison);
    }
    if (strings == 2 && function != PyNumber_Add) {
        return fail(run, "strings can only be joined and compared");
    }
    if ((function == PyNumber_FloorDivide || function == PyNumber_Remainder)
        && !PyObject_IsTrue(right))
    {
        return run->is_check ? PyLong_FromLong(0)
                             : fail(run, "division by zero");
    }
    return function(left, right);
}

static PyObject *
evaluate(Run *run, int level)
{
    if (++run->nesting > MAX_NESTING) {
        return fail(run, "the expression is nested too deeply");
    }
    PyObject *left = operand(run);
    for (size_t i = 0; left != NULL && i < Py_ARRAY_LENGTH(operators); i++) {
        if (run->token != operators[i].token || operators[i].level < level) {
            continue;
        }
        next_token(run);
        PyObject *right = evaluate(run, operators[i].level + 1), *value = NULL;
        if (right != NULL) {
            value = operate(run, (int)i, left, right);
            value = to_value(run, value, value && PyUnicode_Check(value));
            Py_DECREF(right);
        }
        Py_SETREF(left, value);
        i = (size_t)-1;     /* look for the next operator from the start */
    }
    run->nesting--;
    return left;
}


/* --- Statements --------------------------------------------------------- */

/* Steals the reference to the value, and passes NULL through. */
static int
print_value(Run *run, PyObject *value)
{
    int result = value == NULL ? -1 : run->is_check ? 0
                 : PyFile_WriteObject(value, run->output, Py_PRINT_RAW);
    Py_XDECREF(value);
    return result;
}

/* PRINT values, with ';' or ',' anywhere between them */
static int
run_print(Run *run)
{
    int result = 0, ends_line = 1;
    while (result == 0 && run->token != T_EOL) {
        ends_line = 0;
        if (accept(run, ',')) {
            result = print_value(run, PyUnicode_FromString("\t"));
        }
        else if (!accept(run, ';')) {
            ends_line = 1;
            result = print_value(run, evaluate(run, 1));
        }
    }
    if (result == 0 && ends_line) {
        result = print_value(run, PyUnicode_FromString("\n"));
    }
    return result;
}

/* INPUT ["prompt";] variable */
static int
run_input(Run *run)
{
    const char *prompt = "? ";
    int length = 2;
    if (run->token == T_STRING) {
        prompt = run->start + 1;
        length = (int)(run->next - run->start) - 2;
        next_token(run);
        if (expect(run, ';', "';'") < 0) {
            return -1;
        }
    }
    PyObject *name = parse_variable(run);
    if (name == NULL || run->is_check) {
        Py_XDECREF(name);
        return name == NULL ? -1 : 0;
    }
    PyObject *value = PyObject_CallFunction(run->input, "s#", prompt,
                                            (Py_ssize_t)length);
    value = to_value(run, value, 1);
    if (value != NULL && !is_string(name)) {
        PyObject *number = PyLong_FromUnicodeObject(value, 10);
        if (number == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            fail(run, "%R is not a number", value);
        }
        Py_SETREF(value, number);
    }
    return set(run, name, value);
}

/* LET variable = value */
static int
run_let(Run *run)
{
    PyObject *name = parse_variable(run);
    if (name == NULL) {
        return -1;
    }
    return set(run, name, expect(run, '=', "'='") < 0 ? NULL
                                                      : evaluate(run, 1));
}

/* DIM NAME(last): the elements themselves come to be when they are set. */
static int
run_dim(Run *run)
{
    PyObject *array = PyUnicode_FromFormat(
        "%.*s(", (int)(run->next - run->start), run->start);
    PyObject *last = NULL;
    int result = -1;
    if (expect(run, T_NAME, "an array") == 0 && expect(run, '(', "'('") == 0) {
        last = to_value(run, evaluate(run, 1), 0);
    }
    if (last != NULL && expect(run, ')', "')'") == 0) {
        result = run->is_check ? 0
                 : PyDict_SetItem(run->variables, array, last);
    }
    Py_XDECREF(last);
    Py_XDECREF(array);
    return result;
}

static int
compare_numbers(const void *number, const void *statement)
{
    return *(const int *)number - ((const Statement *)statement)->number;
}

/* The index of the line that a number names, or -1. */
static int32_t
parse_target(Run *run)
{
    Program *program = run->program;
    if (run->token != T_NUMBER) {
        unexpected(run, "a line number");
        return -1;
    }
    int number = (int)Py_MIN(strtoul(run->start, NULL, 10), MAX_LINENO + 1);
    Statement *statement = bsearch(&number, program->statements,
                                   program->length, sizeof(Statement),
                                   compare_numbers);
    if (statement == NULL) {
        fail(run, "no line is numbered %.*s", (int)(run->next - run->start),
             run->start);
        return -1;
    }
    next_token(run);
    return (int32_t)(statement - program->statements)
           - statement->is_after_then;
}

/* FOR variable = start TO limit [STEP step].  As in Python, a loop comes back
 * to its first line each time around. */
static int
run_for(Run *run)
{
    Statement *statement = &run->program->statements[run->at];
    Loop loop = {.step = 1};
    long long limit;
    int goes_on = 1;
    PyObject *name = parse_variable(run);
    if (name == NULL) {
        return -1;
    }
    if (run->is_looping) {
        run->is_looping = 0;
        loop = run->loops[run->at];
        goes_on = loop.further > 0;
        loop.value += goes_on ? loop.step : 0;
        loop.further -= goes_on;
    }
    else {
        if (expect(run, '=', "'='") < 0
            || evaluate_number(run, &loop.value) < 0
            || expect(run, T_TO, "TO") < 0
            || evaluate_number(run, &limit) < 0
            || (accept(run, T_STEP) && evaluate_number(run, &loop.step) < 0))
        {
            Py_DECREF(name);
            return -1;
        }
        if (run->is_check) {
            statement->variable = Py_NewRef(name);
            statement->jump = run->open_for;
            run->open_for = run->at;
        }
        else if (loop.step == 0) {
            Py_DECREF(name);
            fail(run, "STEP is 0");
            return -1;
        }
        /* The number of rounds is known now, so that nothing overflows. */
        else if (loop.step > 0) {
            goes_on = loop.value <= limit;
            loop.further = ((unsigned long long)limit - loop.value)
                           / loop.step;
        }
        else {
            goes_on = loop.value >= limit;
            loop.further = ((unsigned long long)loop.value - limit)
                           / -(unsigned long long)loop.step;
        }
    }
    if (set(run, name, PyLong_FromLongLong(loop.value)) < 0) {
        return -1;
    }
    if (run->is_check) {
        return 0;
    }
    run->loops[run->at] = loop;
    return branch_to(run, goes_on ? run->at + 1 : statement->jump + 1);
}

static int
run_next(Run *run)
{
    Statement *statements = run->program->statements;
    Statement *statement = &statements[run->at];
    PyObject *name = parse_variable(run);
    if (name == NULL) {
        return -1;
    }
    if (run->is_check) {
        statement->jump = run->open_for;
        if (statement->jump < 0
            || PyUnicode_Compare(statements[statement->jump].variable,
                                 name) != 0)
        {
            fail(run, "NEXT %U without FOR", name);
            Py_DECREF(name);
            return -1;
        }
        run->open_for = statements[statement->jump].jump;
        statements[statement->jump].jump = run->at;
    }
    Py_DECREF(name);
    if (run->is_check) {
        return 0;
    }
    if (run->loops[statement->jump].step == 0) {
        fail(run, "NEXT comes before its FOR");
        return -1;
    }
    run->is_looping = 1;
    return jump_to(run, statement->jump);
}

/* CALL NAME[(argument, ...)] [INTO variable] */
static int
run_call(Run *run)
{
    PyObject *function = PyUnicode_FromStringAndSize(run->start,
                                                     run->next - run->start);
    PyObject *list = PyList_New(0), *args = NULL, *callable = NULL;
    PyObject *value = NULL, *name = NULL;
    int result = function && list ? expect(run, T_NAME, "a function") : -1;
    if (result == 0 && accept(run, '(') && !accept(run, ')')) {
        do {
            PyObject *arg = evaluate(run, 1);
            result = arg ? PyList_Append(list, arg) : -1;
            Py_XDECREF(arg);
        } while (result == 0 && accept(run, ','));
        result = result < 0 ? -1 : expect(run, ')', "')'");
    }
    if (result == 0 && !run->is_check) {
        if (PyDict_GetItemRef(run->functions, function, &callable) == 0) {
            fail(run, "there is no function %U", function);
        }
        args = callable ? PyList_AsTuple(list) : NULL;
        value = args ? call(run, callable, args) : NULL;
        result = value ? 0 : -1;
    }
    if (result == 0 && accept(run, T_INTO)) {
        name = parse_variable(run);
        result = name == NULL ? -1 : run->is_check ? 0
                 : set(run, Py_NewRef(name), Py_NewRef(value));
    }
    Py_XDECREF(name);
    Py_XDECREF(value);
    Py_XDECREF(args);
    Py_XDECREF(callable);
    Py_XDECREF(list);
    Py_XDECREF(function);
    return result;
}

/* See that the target of a GOSUB, or the first line, is a subroutine. */
static int
add_subroutine(Program *program, int32_t first)
{
    Statement *statement = &program->statements[first];
    if (statement->code != NULL) {
        return 0;
    }
    /* A remark at its start is its name. */
    Run remark = {.next = statement->text};
    next_token(&remark);
    const char *text = remark.next + strspn(remark.next, " \t\r");
    size_t length = strcspn(text, "\n");
    while (length > 0 && Py_ISSPACE(text[length - 1])) {
        length--;
    }
    PyObject *name = first == 0 ? PyUnicode_FromString("MAIN")
                     : remark.token == T_REM && length > 0
                     ? PyUnicode_FromStringAndSize(text, length)
                     : PyUnicode_FromFormat("SUB %d", statement->number);
    PyObject *code = name ? new_subroutine(program, name, first) : NULL;
    int result = code ? PyList_Append(program->subroutines, code) : -1;
    statement->code = code;
    Py_XDECREF(code);
    Py_XDECREF(name);
    return result;
}

static int
run_gosub(Run *run)
{
    int32_t target = parse_target(run);
    if (target < 0) {
        return -1;
    }
    if (run->is_check) {
        return add_subroutine(run->program, target);
    }
    if (Py_EnterRecursiveCall(" in a GOSUB")) {
        return -1;
    }
    run->depth++;
    int result = run_scope(run, target);
    run->depth--;
    Py_LeaveRecursiveCall();
    return result;
}

/* IF condition THEN number, or statement */
static int
run_if(Run *run)
{
    long long condition;
    int32_t next = run->at + 1, target = next;
    if (evaluate_number(run, &condition) < 0
        || expect(run, T_THEN, "THEN") < 0)
    {
        return -1;
    }
    if (run->token == T_NUMBER) {
        target = parse_target(run);
    }
    else if (run->token == T_EOL) {
        unexpected(run, "a statement");
        target = -1;
    }
    else {
        next++;
    }
    if (target < 0 || run->is_check) {
        return target < 0 ? -1 : 0;
    }
    return branch_to(run, condition ? target : next);
}

static int
run_statement(Run *run)
{
    int token = run->token;
    int32_t target;
    if (run->program->statements[run->at].is_after_then
        && (token == T_IF || token == T_FOR || token == T_NEXT))
    {
        fail(run, "%s cannot follow THEN", words[token - T_LE]);
        return -1;
    }
    if (token == T_REM) {
        run->next += strcspn(run->next, "\n");
    }
    if (token <= T_AND || token == T_INTO || token == T_MOD || token == T_OR
        || token >= T_STEP)
    {
        unexpected(run, "a statement");
        return -1;
    }
    next_token(run);
    switch (token) {
    case T_CALL:
        return run_call(run);
    case T_DIM:
        return run_dim(run);
    case T_END:
        run->is_ending = 1;
        return 0;
    case T_FOR:
        return run_for(run);
    case T_GOSUB:
        return run_gosub(run);
    case T_GOTO:
        target = parse_target(run);
        return target < 0 ? -1 : run->is_check ? 0 : jump_to(run, target);
    case T_IF:
        return run_if(run);
    case T_INPUT:
        return run_input(run);
    case T_LET:
        return run_let(run);
    case T_NEXT:
        return run_next(run);
    case T_PRINT:
        return run_print(run);
    case T_RETURN:
        if (run->depth == 0 && !run->is_check) {
            fail(run, "RETURN without GOSUB");
            return -1;
        }
        run->is_returning = 1;
        return 0;
    default:
        return 0;
    }
}

static int
run_next_statement(Run *run)
{
    Statement *statement = &run->program->statements[run->next_at];
    run->at = run->next_at++;
    if (run->at == run->program->length) {
        run->is_ending = 1;
        return 0;
    }
    /* Ctrl-C must end a program that has no end. */
    if (!statement->is_after_then
        && (PyErr_CheckSignals() < 0 || fire_line(run) < 0))
    {
        return -1;
    }
    run->next = statement->text;
    next_token(run);
    return run_statement(run);
}


/* --- Programs ----------------------------------------------------------- */

/* Add the statement that begins with the current token. */
static void
add_statement(Run *run, int lineno, const char *line, int number)
{
    Program *program = run->program;
    Statement *statements = program->statements;
    int32_t at = program->length;
    statements[at].number = number;
    statements[at].text = run->start;
    statements[at].is_after_then = (at > 0
                                    && statements[at - 1].number == number);
    set_location(program, lineno, line, run->start);
    program->length++;
}

static int
add_line(Run *run, int lineno, const char *line)
{
    Program *program = run->program;
    int32_t n = program->length;
    int first = n > 0 ? program->statements[n - 1].number + 1 : 1;
    unsigned long number = strtoul(run->start, NULL, 10);
    if (run->token != T_NUMBER || number < (unsigned long)first
        || number > MAX_LINENO)
    {
        run->at = n;
        set_location(program, lineno, line, run->start);
        fail(run, "expected a line number from %d to %d at '%.*s'",
             first, MAX_LINENO, (int)strcspn(run->start, "\r\n"),
             run->start);
        return -1;
    }
    next_token(run);
    add_statement(run, lineno, line, (int)number);
    if (run->token == T_IF) {
        while (run->token != T_THEN && run->token != T_EOL) {
            next_token(run);
        }
        if (accept(run, T_THEN) && run->token != T_NUMBER
            && run->token != T_EOL)
        {
            add_statement(run, lineno, line, (int)number);
        }
    }
    return 0;
}

static int
add_lines(Run *run)
{
    Program *program = run->program;
    const char *line = PyBytes_AS_STRING(program->source);
    size_t n_lines = 1;
    for (const char *p = line; *p != '\0'; p++) {
        n_lines += *p == '\n';
    }
    program->statements = PyMem_Calloc(2 * n_lines + 1, sizeof(Statement));
    program->locations = PyMem_Calloc(2 * n_lines + 1, sizeof(PyCodeLocation));
    if (program->statements == NULL || program->locations == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int lineno = 1; *line != '\0'; lineno++) {
        run->next = line;
        next_token(run);
        if (run->token != T_EOL && add_line(run, lineno, line) < 0) {
            return -1;
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    if (program->length == 0) {
        PyErr_Format(program->state->error, "%U: there is no line in it",
                     program->filename);
        return -1;
    }
    /* The end, where a program without END returns, has no text. */
    int lineno = program->locations[program->length - 1].lineno;
    program->locations[program->length] = (PyCodeLocation){
        lineno, lineno, -1, -1
    };
    return 0;
}

static int
load(Program *program)
{
    Run run = {.program = program, .is_check = 1, .open_for = -1};
    if (add_lines(&run) < 0) {
        return -1;
    }
    PyObject *range = PyObject_CallFunction(
        (PyObject *)&PyRange_Type, "iii", 0,
        PyCode_LOCATION_OFFSET(program->length + 1),
        PyCode_LOCATION_OFFSET(1));
    program->offsets = range ? PySequence_Tuple(range) : NULL;
    Py_XDECREF(range);
    program->subroutines = PyList_New(0);
    if (program->subroutines == NULL || program->offsets == NULL
        || add_subroutine(program, 0) < 0)
    {
        return -1;
    }
    for (; run.at < program->length; run.at++) {
        run.next = program->statements[run.at].text;
        next_token(&run);
        if (run_statement(&run) < 0
            || (!program->statements[run.at + 1].is_after_then
                && expect(&run, T_EOL, "the end of the line") < 0))
        {
            return -1;
        }
    }
    if (run.open_for >= 0) {
        run.at = run.open_for;
        fail(&run, "FOR without NEXT");
        return -1;
    }
    Py_SETREF(program->subroutines, PyList_AsTuple(program->subroutines));
    return program->subroutines == NULL ? -1 : 0;
}

static PyObject *
program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "filename", NULL};
    const char *source;
    PyObject *filename;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO&:Program", names,
                                     &source, PyUnicode_FSDecoder,
                                     &filename))
    {
        return NULL;
    }
    Program *self = (Program *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(filename);
        return NULL;
    }
    self->state = PyType_GetModuleState(type);
    self->filename = filename;
    self->source = PyBytes_FromString(source);
    if (self->source == NULL || load(self) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(program_run_doc,
"run($self, /, functions={}, input=None, output=None)\n--\n\n"
"Run the program.\n\n"
"CALL calls the functions in a dict, by their names.  INPUT calls input with\n"
"the prompt and PRINT writes to the file output; they default to the builtin\n"
"function and to sys.stdout.");

static PyObject *
program_run(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"functions", "input", "output", NULL};
    Program *program = (Program *)self;
    PyObject *functions = NULL, *input = Py_None, *output = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O!OO:run", names,
                                     &PyDict_Type, &functions, &input,
                                     &output))
    {
        return NULL;
    }
    PyObject *sys = PyImport_ImportModule("sys");
    if (sys == NULL) {
        return NULL;
    }
    PyObject *builtins = PyEval_GetFrameBuiltins();
    Run run = {
        .program = program,
        .functions = functions ? Py_NewRef(functions) : PyDict_New(),
        .input = input != Py_None || builtins == NULL ? Py_NewRef(input)
                 : PyMapping_GetItemString(builtins, "input"),
        .output = output != Py_None ? Py_NewRef(output)
                  : PyObject_GetAttrString(sys, "stdout"),
        .variables = PyDict_New(),
        .loops = PyMem_Calloc(program->length, sizeof(Loop)),
    };
    int result = -1;
    if (run.loops == NULL) {
        PyErr_NoMemory();
    }
    else if (builtins != NULL && run.functions != NULL && run.input != NULL
             && run.output != NULL && run.variables != NULL)
    {
        result = run_scope(&run, 0);
    }
    PyMem_Free(run.loops);
    Py_XDECREF(run.variables);
    Py_XDECREF(run.output);
    Py_XDECREF(run.input);
    Py_XDECREF(run.functions);
    Py_XDECREF(builtins);
    Py_DECREF(sys);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* Without garbage collection: what it holds does not refer back to it. */
static void
program_dealloc(PyObject *op)
{
    Program *self = (Program *)op;
    PyTypeObject *type = Py_TYPE(op);
    for (int32_t i = 0; i < self->length; i++) {
        Py_XDECREF(self->statements[i].variable);
    }
    PyMem_Free(self->statements);
    PyMem_Free(self->locations);
    Py_XDECREF(self->source);
    Py_XDECREF(self->filename);
    Py_XDECREF(self->subroutines);
    Py_XDECREF(self->offsets);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef program_methods[] = {
    {"run", (PyCFunction)(void (*)(void))program_run,
     METH_VARARGS | METH_KEYWORDS, program_run_doc},
    {NULL, NULL, 0, NULL}
};

static PyMemberDef program_members[] = {
    {"subroutines", Py_T_OBJECT_EX, offsetof(Program, subroutines),
     Py_READONLY, "The main program and the targets of GOSUB."},
    {NULL, 0, 0, 0, NULL}
};

PyDoc_STRVAR(program_doc,
"Program(source, filename)\n--\n\n"
"A program in Tiny BASIC.  A bad line is a tinybasic.Error.");

static PyType_Slot program_slots[] = {
    {Py_tp_doc, (void *)program_doc},
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, program_methods},
    {Py_tp_members, program_members},
    {0, NULL}
};

static PyType_Spec program_spec = {
    .name = "tinybasic.Program",
    .basicsize = sizeof(Program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};


/* --- The module --------------------------------------------------------- */

static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->error = PyErr_NewExceptionWithDoc(
        "tinybasic.Error", "An error in a BASIC program.", NULL, NULL);
    state->program_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &program_spec, NULL);
    if (state->program_type == NULL
        || PyModule_AddObjectRef(module, "Error", state->error) < 0)
    {
        return -1;
    }
    return PyModule_AddType(module, state->program_type);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->error);
    Py_VISIT(state->program_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->error);
    Py_CLEAR(state->program_type);
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tinybasic",
    .m_doc = "Tiny BASIC, in which sys.monitoring sees what happens.",
    .m_size = sizeof(module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit_tinybasic(void)
{
    return PyModuleDef_Init(&module_def);
}
