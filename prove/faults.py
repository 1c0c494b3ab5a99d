"""Seeded faults: can the model test find a check that is missing?

Each fault is tried in a copy of the patched tree and its release build: one
edit, what it changes compiled anew, and the model test for a minute.  There
are as many copies as the machine has processors.
"""

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
import os
import queue
import re
import shutil
import signal
import subprocess

from series import diffs
from series.common import SeriesError, clean_environment, say

TIME_LIMIT = 60         # seconds
MODEL_TEST = "test.test_capi.test_monitoring_model"
# Only the sources use the functions in the header.
SOURCES = ("Python/instrumentation.c", "Python/codelikes.c")
HEADER = "Include/internal/pycore_codelikes.h"
FILES = (*SOURCES, HEADER)

# The promise that is broken, the function it is kept in, the text that occurs
# once there and what stands in its place.  White space in the text may differ.
Fault = namedtuple("Fault", "title function old new")

FAULTS = tuple(Fault(*fault) for fault in (
    # Exceptions.
    ("an error carries the pending exception",
     "chain_pending_exception", "PyException_SetContext(link, pending);",
     "Py_DECREF(pending);"),
    ("chains of contexts are no rings",
     "chain_pending_exception", "PyException_SetContext(link, NULL);", ";"),
    ("the pending exception comes before what was handled",
     "chain_pending_exception", "&& context != handled", ""),
    ("a raised exception that carries the pending one stays",
     "chain_pending_exception",
     "raised == pending || find_context(raised, pending) != NULL",
     "raised == pending"),
    ("the pending exception is set again",
     "end_event", "tstate->current_exception = pending;",
     "Py_XDECREF(pending);"),
    ("the pending exception is set again after an only callback",
     "call_only_callback", "tstate->current_exception = pending;",
     "Py_XDECREF(pending);"),
    ("callbacks run with no exception set",
     "call_tools", "tstate->current_exception = NULL;", ""),
    ("an only callback runs with no exception set",
     "call_only_callback", "tstate->current_exception = NULL;", ""),
    ("nor does one of two arguments run with one set",
     "call_only_callback", "|| (nargs == 2 && pending != NULL)", ""),
    # Which tools an event has.
    ("legacy tools get nothing",
     "update_producers_unlocked",
     "interp->monitors.tools[group] & PRODUCER_TOOLS",
     "interp->monitors.tools[group]"),
    ("INSTRUCTION is never active",
     "update_producers_unlocked", "event == PY_MONITORING_EVENT_INSTRUCTION",
     "0"),
    ("C_RETURN and C_RAISE are on where CALL is",
     "update_producers_unlocked", "interp->monitors.tools[group]",
     "interp->monitors.tools[event]"),
    ("C_RETURN and C_RAISE are local where CALL is",
     "update_producers_unlocked", "PY_MONITORING_IS_INSTRUMENTED_EVENT(group)",
     "PY_MONITORING_IS_INSTRUMENTED_EVENT(event)"),
    ("a callback for C_RETURN makes the state of CALL active",
     "update_producers_unlocked",
     "| tools_with_callback(interp, PY_MONITORING_EVENT_C_RETURN)", ""),
    ("a callback for C_RAISE makes the state of CALL active",
     "update_producers_unlocked",
     "| tools_with_callback(interp, PY_MONITORING_EVENT_C_RAISE)", ""),
    ("a tool that has the event on gets it for every code-like",
     "update_producers_unlocked", "in_use & ~on", "in_use"),
    ("a tool in use is called for local events",
     "update_producers_unlocked", "(on | local) & callbacks",
     "on & callbacks"),
    ("a tool in use is called for local events only where it has them",
     "update_producers_unlocked", "tools->local = local & callbacks;",
     "tools->local = 0;"),
    ("states are active for a tool in use with a callback",
     "update_producers_unlocked", "uint8_t active = on | (local &",
     "uint8_t active = on | (0 &"),
    ("states are written again when tools change",
     "update_producers_unlocked",
     "active != producers->states[event].active", "false"),
    ("a tool with local events is in use",
     "tools_in_use", "interp->producers.use_local", "0"),
    ("a tool with a global event is in use",
     "tools_in_use", "tools |= interp->monitors.tools[event];", ";"),
    ("states are written while a tool listens",
     "step_version_unlocked", "version |= _PyMonitoring_ANY_LISTENS;", ";"),
    ("unknown events are no errors while nobody listens",
     "step_version_unlocked",
     "version &= ~(uintptr_t)_PyMonitoring_ANY_LISTENS;", ""),
    ("C_RAISE has four arguments",
     "num_arguments", "case PY_MONITORING_EVENT_C_RAISE:", ""),
    # The only callback of an event.
    ("a callback is the only one until tools change",
     "update_only_callback", "tools->vectorcall = NULL;", ""),
    ("of two callbacks both are called",
     "update_only_callback", "(tools->called & (tools->called - 1)) != 0",
     "0"),
    ("a tool with local events is not called for every code-like",
     "update_only_callback", "|| tools->local != 0", ""),
    ("an only callback gets a StopIteration",
     "update_only_callback",
     "|| event == PY_MONITORING_EVENT_STOP_ITERATION", ""),
    ("a new callback is not called for disabled locations",
     "update_only_callback", "&& interp->codelikes.has_disabled[group]",
     "&& 0"),
    ("nor is one for C_RETURN where CALL is disabled",
     "update_only_callback", "int group = event_group(event);",
     "int group = event;"),
    ("callbacks of any type are called",
     "find_vectorcall", "type != &PyFunction_Type", "0"),
    ("an only callback disables for its tool's owner",
     "update_only_callback",
     "tools->owner = _Py_codelikes_owner(&interp->codelikes, tool);",
     "tools->owner = tool;"),
    ("DISABLE ends the calls for every location",
     "disable", "look_up_locations(interp, event);", ""),
    ("DISABLE of CALL ends those of C_RETURN",
     "look_up_locations", "event_group(event) == group", "event == group"),
    # Scopes.
    ("unknown events are errors",
     "write_states", "event_types[i] < _PY_MONITORING_EVENTS",
     "event_types[i] <= _PY_MONITORING_EVENTS"),
    ("the states of a scope with an unknown event are off",
     "refuse_scope", "WRITE_STATE(&state_array[i], ((PyMonitoringState){0}));",
     ""),
    ("its version is 0",
     "refuse_scope", "END_WRITING(version, 0);", "END_WRITING(version, now);"),
    ("its error carries the pending exception",
     "refuse_scope", "chain_pending_exception(tstate, pending);",
     "Py_XDECREF(pending);"),
    # Calling callbacks.
    ("no re-entry",
     "call_tools", "if (tstate->tracing) {", "if (0) {"),
    ("what_event is restored",
     "call_tools", "tstate->what_event = old_what;",
     "tstate->what_event = NO_EVENT;"),
    ("an only callback is for where no other runs",
     "call_only_callback", "tstate->what_event != NO_EVENT ||", ""),
    ("no f_lineno can be set",
     "call_tools", "tstate->what_event = PRODUCER_EVENT;", ""),
    ("tracing is restored where an only callback raises",
     "end_only_callback", "tstate->tracing--;", ""),
    ("tools are called in the interpreter's order",
     "call_tools", "int tool = most_significant_bit(tools);",
     "int tool = __builtin_ctz(tools);"),
    ("a callback that was removed meanwhile is not called",
     "call_tools", "if (callback == NULL) {", "if (0) {"),
    ("an error of a callback is the event's",
     "take_result", "return -1;", "PyErr_Clear(); return 0;"),
    ("the first callback that raises ends the event",
     "call_tools", "while (tools && err == 0);", "while (tools);"),
    ("a result is released",
     "call_only_callback", "Py_DECREF(res);", ""),
    ("a StopIteration is reported as it is",
     "new_stop_iteration",
     "PyObject_TypeCheck(value, (PyTypeObject *)PyExc_StopIteration)", "0"),
    ("other exceptions are not",
     "new_stop_iteration",
     "PyObject_TypeCheck(value, (PyTypeObject *)PyExc_StopIteration)",
     "PyExceptionInstance_Check(value)"),
    ("nor are tuples taken apart",
     "new_stop_iteration",
     "return PyObject_CallOneArg(PyExc_StopIteration, value);",
     "return PyObject_CallObject(PyExc_StopIteration, value);"),
    ("the value of StopIteration is released",
     "call_tools", "Py_XDECREF(stop);", ""),
    # Callbacks that are replaced.
    ("a callback that is replaced lives while it runs",
     "_PyMonitoring_RegisterCallback", "keep_running_callback(is, callback);",
     ""),
    ("and no longer",
     "leave_callback", "running & REPLACED", "0"),
    ("what a thread releases is marked",
     "keep_running_callback", "| REPLACED", ""),
    ("a callback within another does not stand for it",
     "call_tools", "bool is_nested = *running_callback(tstate) != NULL;",
     "bool is_nested = false;"),
    ("a callback that returned runs no more",
     "end_only_callback", "leave_callback(tstate);", ""),
    # Numbers.
    ("a number that is kept does not change",
     "ready_number", "|| !_PyObject_IsUniquelyReferenced(last)", ""),
    ("a number of two digits is not made by changing one",
     "ready_number", "|| (unsigned)number > PyLong_MASK", ""),
    ("nor changed",
     "new_number", "&& (unsigned)number <= PyLong_MASK", ""),
    ("a number that callbacks still get is not replaced",
     "new_number", "&& *running_callback(tstate) == NULL", ""),
    ("a number is released",
     "call_tools", "Py_XDECREF(made);", ""),
    # What is fired.
    ("negative offsets are errors",
     "fire", "offset < 0 ||", ""),
    ("C_RAISE without an exception is an error",
     "reports_exception", "| (1 << PY_MONITORING_EVENT_C_RAISE)", ""),
    ("C_RAISE reports the callable",
     "fire", "&& event != PY_MONITORING_EVENT_C_RAISE", ""),
    ("a tool switched on in mid-scope waits for the next EnterScope",
     "fire",
     "FT_ATOMIC_LOAD_UINT8_RELAXED(state->active) & event_tools->called",
     "FT_ATOMIC_LOAD_UINT8_RELAXED(state->active)"),
    ("a tool that was switched off is not called",
     "fire",
     "_Py_atomic_load_uint8_relaxed(&state->active) & event_tools->called;",
     "_Py_atomic_load_uint8_relaxed(&state->active);"),
    ("nor is it with disabled locations",
     "fire", "& event_tools->called & ~disabled", "& ~disabled"),
    ("arguments are not checked while a callback runs",
     "refuse_event", "|| tstate->tracing", ""),
    ("nor at disabled locations",
     "refuse_event", "is_disabled_anywhere(interp, group)", "0"),
    ("nor without local events",
     "refuse_event", "tools & event_tools->local", "0"),
    ("those of C_RETURN are not where CALL is not local",
     "refuse_event", "int group = event_tools->group;", "int group = event;"),
    ("wrong arguments keep the pending exception",
     "refuse_event", "chain_pending_exception(tstate, pending);",
     "Py_XDECREF(pending);"),
    ("LINE reports the line",
     "_PyMonitoring_FireLineEvent", "offset, lineno", "offset, offset"),
    # C_RETURN, C_RAISE and calls.
    ("C_RETURN reports callable and argument",
     "_PyMonitoring_FireCallReturnEvent", "offset, callable, arg0",
     "offset, arg0, callable"),
    ("so does C_RAISE",
     "_PyMonitoring_FireCallRaiseEvent", "offset, callable, arg0",
     "offset, callable, callable"),
    ("C_RETURN of the first version reports MISSING",
     "_PyMonitoring_FireCReturnEvent",
     "&_PyInstrumentation_MISSING, &_PyInstrumentation_MISSING",
     "&_PyInstrumentation_MISSING, Py_None"),
    ("so does C_RAISE of the first version",
     "_PyMonitoring_FireCRaiseEvent",
     "&_PyInstrumentation_MISSING, &_PyInstrumentation_MISSING",
     "Py_None, &_PyInstrumentation_MISSING"),
    ("Python functions have no C_RETURN",
     "_PyMonitoring_Vectorcall", "is_python_function(callable)", "0"),
    ("bound methods have no C_RETURN",
     "is_python_function", "PyMethod_Check(callable)", "0"),
    ("the argument is the first one",
     "_PyMonitoring_Vectorcall", "args[0]", "callable"),
    ("without arguments it is MISSING",
     "_PyMonitoring_Vectorcall", ": &_PyInstrumentation_MISSING", ": Py_None"),
    ("a CALL whose callback raises calls nothing",
     "_PyMonitoring_Vectorcall", "arg0) < 0) { return NULL; }",
     "arg0) < 0) { PyErr_Clear(); }"),
    ("keywords are passed",
     "_PyMonitoring_Vectorcall", "args, nargsf, kwnames);",
     "args, nargsf, NULL);"),
    ("a result is dropped where C_RETURN's callback raises",
     "_PyMonitoring_Vectorcall", "Py_CLEAR(res);", "res = NULL;"),
    ("C_RETURN has the offset of its CALL",
     "_PyMonitoring_Vectorcall",
     "FireCallReturnEvent(c_return_state, codelike, offset,",
     "FireCallReturnEvent(c_return_state, codelike, 0,"),
    ("C_RAISE has the offset of its CALL",
     "_PyMonitoring_Vectorcall",
     "FireCallRaiseEvent(c_raise_state, codelike, offset,",
     "FireCallRaiseEvent(c_raise_state, codelike, 0,"),
    ("C_RETURN has its own state",
     "_PyMonitoring_Vectorcall", "FireCallReturnEvent(c_return_state,",
     "FireCallReturnEvent(call_state,"),
    # DISABLE.
    ("disabled locations are not called for",
     "fire", "is_disabled_anywhere(interp, event_group(event))", "0"),
    ("a CALL disabled for a tool has no C_RETURN for it",
     "fire", "is_disabled_anywhere(interp, event_group(event))",
     "is_disabled_anywhere(interp, event)"),
    ("DISABLE of an event that cannot be disabled is an error",
     "disable", "!PY_MONITORING_IS_INSTRUMENTED_EVENT(event)", "0"),
    ("the callback that cannot disable is removed",
     "disable",
     "Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));", ""),
    ("but not that of the next owner",
     "disable", "e->owner == _Py_codelikes_owner(&interp->codelikes, tool)",
     "1"),
    ("DISABLE falls back on the state",
     "disable", "e->state->active &= ~(1 << tool);", ""),
    ("for its tool alone",
     "disable", "e->state->active &= ~(1 << tool);",
     "e->state->active = 0;"),
    ("for the owner alone",
     "disable", "_Py_codelikes_is_owner(&interp->codelikes, e->owner)",
     "true"),
    ("a code-like that cannot be weakly referenced can fall back",
     "_Py_codelike_disable", "!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))",
     "0"),
    ("a location is disabled for its tool alone",
     "_Py_codelike_disable", "*slot | key | disabled",
     "*slot | key | disabled | 0x3f"),
    ("it stays disabled for the other tools",
     "_Py_codelike_disable", "*slot | key | disabled", "key | disabled"),
    ("a location is disabled for the owner of the tool alone",
     "_Py_codelike_disable", "!_Py_codelikes_is_owner(state, owner)", "false"),
    ("a location is disabled for its event alone",
     "_Py_codelike_location_key", "(uint64_t)(event + 1) << 8", "0x100"),
    ("a location is found whatever tools disabled it",
     "find_location", "(table->slots[i & table->mask] & ~TOOLS_MASK) != key",
     "table->slots[i & table->mask] != key"),
    ("disabled locations outlive those that come after",
     "reserve_location",
     "*find_location(table, old->slots[i] & ~TOOLS_MASK) = old->slots[i];",
     ";"),
    ("disabled locations outlive the table",
     "is_needed", "return has_locations(entry);", "return false;"),
    ("what is known of a code-like dies with it",
     "_Py_codelike_find",
     "&& FT_ATOMIC_LOAD_PTR_RELAXED(found->ref->wr_object) == codelike", ""),
    ("restart_events forgets disabled locations",
     "_Py_codelikes_restart", "forget_locations(state->table->slots[i]);",
     ";"),
    ("restart_events has states written again",
     "restart_producers", "step_version_unlocked();", ""),
    ("free_tool_id forgets disabled locations",
     "free_tool_of_locations", "& ~(UINT64_C(1) << tool)", ""),
    ("it leaves those of other tools",
     "free_tool_of_locations", "others == 0", "1"),
    ("it leaves those of other tools for all events",
     "free_tool_of_locations", "1 << _Py_codelike_key_event(table->slots[i])",
     "1"),
    # Who owns a tool.
    ("a tool that is taken anew has an owner",
     "_Py_codelikes_use_tool", "(state->ownership[tool] + 1) & ~1u",
     "state->ownership[tool]"),
    ("a tool that is freed has none",
     "_Py_codelikes_free_tool", "state->ownership[tool] | 1",
     "state->ownership[tool]"),
    ("nothing is disabled for a tool without an owner",
     "_Py_codelikes_is_owner",
     "&& owner / PY_MONITORING_TOOL_IDS % 2 == 0", ""),
    ("two owners of a tool differ",
     "_Py_codelikes_owner",
     "FT_ATOMIC_LOAD_UINT32_RELAXED(state->ownership[tool]) "
     "* PY_MONITORING_TOOL_IDS + tool", "tool"),
    ("free_tool_id ends the use of local events",
     "free_producers_tool", "interp->producers.use_local &= ~(1 << tool_id);",
     ""),
    ("free_tool_id has states written again",
     "free_producers_tool", "_PyMonitoring_UpdateProducers(interp);", ""),
    ("an only callback is the next owner's when its tool is taken anew",
     "use_producers_tool", "_PyMonitoring_UpdateProducers(interp);", ""),
    # Local events.
    ("local events are for one code-like",
     "fire", "tools &= ~event_tools->local |", "tools &= ~0 |"),
    ("local events on a code object are for it alone",
     "call_local_tools", "~(uint32_t)tools->local |", "~(uint32_t)0 |"),
    ("C_RETURN is local on a code object where CALL is",
     "call_local_tools", "tools->group", "tools->event"),
    ("C_RETURN is local on a code-like where CALL is",
     "fire", "PY_MONITORING_IS_INSTRUMENTED_EVENT(event_group(event))",
     "PY_MONITORING_IS_INSTRUMENTED_EVENT(event)"),
    ("local events on bytecode are the interpreter's",
     "local_tools", "!has_bytecode(codelike)", "1"),
    ("a code object without bytecode to trace has local events",
     "has_bytecode",
     "&& ((PyCodeObject *)codelike)->_co_firsttraceable < Py_SIZE(codelike)",
     ""),
    ("the first local event of a tool counts at once",
     "set_codelike_events", "_PyMonitoring_UpdateProducers(interp);", ""),
    ("to choose no local events is not to use them",
     "set_codelike_events", "events != 0 &&", ""),
    ("a tool that is free has no new local events",
     "set_codelike_events", "check_tool(interp, tool_id)", "0"),
    ("local events outlive the table",
     "is_needed", "if (entry->local_tools[event]) {", "if (0) {"),
    ("free_tool_id forgets local events",
     "_Py_codelikes_free_tool", "& ~(1 << tool)", ""),
    ("new local events leave those of the other tools",
     "_Py_codelike_set_local_events",
     "entry->local_tools[event] & ~(1 << tool)", "0"),
    ("new local events replace the tool's own",
     "_Py_codelike_set_local_events", "& ~(1 << tool)", ""),
    ("a code-like needs its attributes",
     "check_codelike", "if (!found) {", "if (0) {"),
    ("a code-like with local events can be weakly referenced",
     "check_codelike", "!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))", "0"),
))


def seed_faults(build):
    """Try every fault; return how many were not found.

    The unchanged copy must pass first: then what fails is the fault.
    """
    sources = {name: (build / "src" / name).read_text() for name in FILES}
    places = find_places(sources)
    copies = queue.SimpleQueue()
    for copy in make_copies(build / "faults", build):
        copies.put(copy)

    def try_fault(fault, place):
        name, start, end = place
        text = sources[name]
        copy = copies.get()
        write_source(copy, name, text[:start] + fault.new + text[end:])
        outcome, found = try_model(copy)
        write_source(copy, name, text)
        copies.put(copy)
        return outcome, found

    write_source(copy, HEADER, sources[HEADER])
    outcome, found = try_model(copy)
    if found:
        raise SeriesError(f"the model test fails without a fault: {outcome}")
    missed = 0
    with ThreadPoolExecutor(copies.qsize()) as executor:
        for fault, (outcome, found) in zip(
                FAULTS, executor.map(try_fault, FAULTS, places)):
            missed += not found
            say("fault", f"{fault.title}: {outcome}")
    print(f"{len(FAULTS) - missed} faults found, {missed} not found",
          flush=True)
    return missed


def make_copies(directory, build):
    """Copy the tree and its release build for each processor."""
    shutil.rmtree(directory, ignore_errors=True)
    copies = [directory / str(i) for i in range(os.cpu_count() or 1)]
    for copy in copies:
        copy.mkdir(parents=True)
        for name in ("src", "release"):
            subprocess.run(["cp", "-a", build / name, copy], check=True)
    return copies


def write_source(copy, name, text):
    """Write a file of a copy; have what it changes compiled anew."""
    source = copy / "src"
    (source / name).write_text(text)
    if name == HEADER:
        for user in SOURCES:
            (source / user).touch()


def find_places(sources):
    """Return (file, start, end) of the text of each fault in {file: text};
    fail naming all that are not found."""
    places = []
    gone = []
    for fault in FAULTS:
        bodies = [(name, body) for name, text in sources.items()
                  for body in function_bodies(fault.function, text)]
        found = [(name, *match.span()) for name, body in bodies
                 for match in pattern(fault.old).finditer(sources[name],
                                                          *body.span())]
        if len(found) == 1:
            places += found
        elif not bodies:
            gone.append(f"'{fault.title}': there is no function "
                        f"{fault.function}()")
        else:
            gone.append(f"'{fault.title}': {fault.function}() has "
                        f"{diffs.times(len(found))} {fault.old!r}")
    if gone:
        raise SeriesError("\n  ".join([
            f"{len(gone)} of {len(FAULTS)} faults have no place any more, "
            f"prove/faults.py needs another for them:", *gone]))
    return places


def function_bodies(name, text):
    """Return the matches of the definitions of a C function."""
    return list(re.finditer(rf"^{name}\([^;{{]*\)\n\{{.*?^\}}$", text,
                            re.MULTILINE | re.DOTALL))


def pattern(code):
    """Return what matches C code with any white space between its tokens."""
    tokens = re.findall(r"\w+|[^\w\s]", code)
    parts = []
    for before, token in zip(["", *tokens], tokens):
        between_words = before[-1:].isalnum() and token[0].isalnum()
        parts.append((r"\s+" if between_words else r"\s*")
                     + re.escape(token))
    # No white space before the first token.
    return re.compile("".join(parts).removeprefix(r"\s*"))


def try_model(copy):
    """Build a copy and run the model test until it fails or the time is up;
    return what happened and whether the test failed.

    Memory that is used after it was freed does not hold what it did.
    """
    log = copy / "make.log"
    with open(log, "wb") as file:
        # What is frozen into the interpreter does not change with a fault,
        # nor does most of what includes the header.  To optimize would take
        # most of the time.
        status = subprocess.run(
            ["make", "-o", "Programs/_freeze_module",
             "-o", "_bootstrap_python", "-o", f"../src/{HEADER}",
             "OPT=-DNDEBUG -fwrapv -O1", "python"], cwd=copy / "release",
            stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment()).returncode
    if status:
        raise SeriesError(f"a fault does not compile, see {log}")
    log = copy / "model.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [copy / "release" / "python", "-m", MODEL_TEST,
             "--steps", "100000000"], stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment(PYTHONMALLOC="debug"),
            start_new_session=True)
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = "timeout"
    # It may still be making the failure short.
    done = re.search(rb"(\d+) steps without a difference, (\S+) s",
                     log.read_bytes())
    if done:
        return f"found after {int(done[1])} steps, {float(done[2])} s", True
    if status != "timeout":
        raise SeriesError(f"the model test did not run, see {log}")
    return "NOT FOUND", False
