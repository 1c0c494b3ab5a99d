"""Seeded faults: can the model test find a check that is missing?

Each fault is tried in a copy of the patched tree and its release build: one
edit, what it changes compiled anew, and the model test for a minute.
"""

from collections import namedtuple
import os
import re
import shutil
import signal
import subprocess

from series import diffs
from series.common import SeriesError, clean_environment, say

TIME_LIMIT = 60         # seconds
MODEL_TEST = "test.test_capi.test_monitoring_model"
FILES = ("Python/instrumentation.c", "Python/codelikes.c",
         "Python/waiting_calls.c")

# The promise that is broken, the function it is kept in, the text that occurs
# once there and what stands in its place.  Of the text, white space may differ.
Fault = namedtuple("Fault", "title function old new")

FAULTS = tuple(Fault(*fault) for fault in (
    # Who is told.
    ("no re-entry",
     "tell_listeners", "if (tstate->tracing) {", "if (0) {"),
    ("a tool that was switched off is not called",
     "find_listeners", "interp->monitors.tools[event];",
     "interp->monitors.tools[event] | interp->producers.listeners[event];"),
    ("states are written again when listeners change",
     "_PyMonitoring_UpdateProducers",
     "memcmp(old_listeners, producers->listeners, sizeof(old_listeners))",
     "0"),
    ("legacy tools get nothing",
     "find_listeners", "return tools & PRODUCER_TOOLS;", "return tools;"),
    ("INSTRUCTION is never active",
     "find_listeners", "event == PY_MONITORING_EVENT_INSTRUCTION", "0"),
    ("answers are on where CALL is",
     "find_listeners", "(1 << event) & C_RETURN_EVENTS", "0"),
    ("of two tools both are told",
     "update_only_tool", "(told & (told - 1)) == 0", "1"),
    ("tools are called in the interpreter's order",
     "tell_tools", "int tool = most_significant_bit(tools);",
     "int tool = __builtin_ctz(tools);"),
    ("an error of a callback ends the event",
     "take_result", "return -1;", "PyErr_Clear(); return 0;"),
    ("unknown events are errors",
     "PyMonitoring_EnterScope", "highest >= _PY_MONITORING_EVENTS", "0"),
    ("negative offsets are errors",
     "are_arguments_valid", "offset >= 0 &&", ""),
    ("a StopIteration is reported as it is",
     "tell_tools", "&& !PyObject_TypeCheck(args[3],",
     "&& (PyTypeObject *)PyExc_Exception != (args[3],"),
    ("the value of StopIteration is released",
     "tell_tools", "Py_XDECREF(stop);", ""),
    # The pending exception.
    ("the pending exception is set again",
     "tell_tools", "tstate->current_exception = pending;",
     "Py_XDECREF(pending);"),
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
    ("a lone tool gets no pending exception",
     "fire_plain_event", "&& tstate->current_exception == NULL", ""),
    ("nor with a value",
     "fire_value_event", "&& tstate->current_exception == NULL", ""),
    ("an exception that a lone tool is told of is set again",
     "tell_only_tool_beside", "tstate->current_exception = pending;",
     "Py_XDECREF(pending);"),
    # Numbers.
    ("a number that is kept does not change",
     "ready_number", "|| !_PyObject_IsUniquelyReferenced(told)", ""),
    # DISABLE.
    ("disabled locations are not told of",
     "disabled_tools",
     "FT_ATOMIC_LOAD_UINT8(codelikes->has_disabled[event])", "0"),
    ("a lone tool is not told of disabled locations",
     "update_only_tool",
     "|| FT_ATOMIC_LOAD_UINT8(interp->codelikes.has_disabled[event])", ""),
    ("DISABLE of an event that cannot be disabled is an error",
     "disable", "!PY_MONITORING_IS_INSTRUMENTED_EVENT(event)", "0"),
    ("the callback that cannot disable is removed",
     "disable",
     "Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));", ""),
    ("DISABLE falls back on the state",
     "disable", "disabled == 0 &&", "0 &&"),
    ("a location is disabled for its tool alone",
     "_Py_codelike_disable", "*slot | key | disabled",
     "*slot | key | disabled | 0x3f"),
    ("a location is disabled for the owner of the tool alone",
     "_Py_codelike_disable", "_Py_codelikes_is_owner(state, owner)", "true"),
    ("restart_events forgets disabled locations",
     "restart_producers", "_Py_codelikes_restart(interp);", ""),
    ("restart_events has states written again",
     "restart_producers", "step_version_unlocked();", ""),
    ("free_tool_id forgets disabled locations",
     "free_tool_of_locations", "& ~(UINT64_C(1) << tool)", ""),
    ("what is known of a code-like dies with it",
     "codelike_died", "bool known = entry->known;", "bool known = false;"),
    # Local events.
    ("local events are for one code-like",
     "listening_tools", "tools & ~(local & ~confirmed)", "tools"),
    ("local events make states active",
     "find_listeners",
     "tools |= FT_ATOMIC_LOAD_UINT8_RELAXED("
     "interp->codelikes.local_tools[event]);", ";"),
    ("free_tool_id forgets local events",
     "_Py_codelikes_free_tool", "& ~(1 << tool)", ""),
    ("new local events leave those of the other tools",
     "_Py_codelike_set_local_events",
     "entry->local_tools[event] & ~(1 << tool)", "0"),
    ("the union of local events is counted",
     "set_local_tools", "any & ~(1 << tool)", "any"),
    ("a code-like needs its attributes",
     "check_codelike", "if (!found) {", "if (0) {"),
    ("a code-like with local events can be weakly referenced",
     "check_codelike", "!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))", "0"),
    # Answers to calls.
    ("Python functions get no answer",
     "wait_for_answer", "|| is_python_function(callable)", ""),
    ("bound methods get no answer",
     "is_python_function", "if (PyMethod_Check(callable)) {", "if (0) {"),
    ("a CALL whose callback raises does not wait",
     "_PyMonitoring_FireCallEvent", "err < 0 && serial", "0"),
    ("a CALL disabled for a tool gives it no answer",
     "fire_answer_event", "& ~call.disabled", ""),
    ("nor are its arguments refused",
     "refuse_event", "& ~excluded", ""),
    ("what waits is dropped at the exit",
     "PyMonitoring_ExitScope", "_Py_waiting_calls_exit(tstate);", ""),
    ("an outer scope's CALL outlives the inner scope",
     "_Py_waiting_calls_exit", ".depth >= depth", ".depth >= 0"),
    ("an enter that is repeated counts once",
     "_Py_waiting_calls_enter", "waiting->entered != version", "1"),
    ("what waits dies with the code-like",
     "codelike_died",
     "_Py_waiting_calls_forget_codelike(interp, entry->address);", ""),
    ("an answer is for the CALL of its code-like",
     "_Py_waiting_calls_take", "waiting->calls[i].codelike == codelike",
     "1"),
    ("nothing waits when no tool wants answers",
     "_PyMonitoring_RegisterCallback",
     "FT_ATOMIC_LOAD_UINT8_RELAXED(is->producers.answered) == 0", "0"),
    ("a freed tool does not keep what waits",
     "_Py_waiting_calls_free_tool", "strip_call_of_tool(interp, tool, &call)",
     "0"),
))


def seed_faults(build):
    """Try every fault; return how many were not found.

    The unchanged copy must pass first: then what fails is the fault.
    """
    sources = {name: (build / "src" / name).read_text() for name in FILES}
    edits = find_places(sources)
    copy = build / "faults"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("src", "release"):
        subprocess.run(["cp", "-a", build / name, copy], check=True)
    outcome, found = try_model(copy)
    if found:
        raise SeriesError(f"the model test fails without a fault: {outcome}")
    missed = 0
    for fault, (name, start, end) in zip(FAULTS, edits):
        path = copy / "src" / name
        text = sources[name]
        path.write_text(text[:start] + fault.new + text[end:])
        outcome, found = try_model(copy)
        missed += not found
        say("fault", f"{fault.title}: {outcome}")
        path.write_text(text)
    print(f"{len(FAULTS) - missed} faults found, {missed} not found",
          flush=True)
    return missed


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
    return what happened and whether the test failed."""
    log = copy / "make.log"
    with open(log, "wb") as file:
        # What is frozen into the interpreter does not change with a fault.
        status = subprocess.run(
            ["make", "-o", "Programs/_freeze_module",
             "-o", "_bootstrap_python", "python"], cwd=copy / "release",
            stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment()).returncode
    if status:
        raise SeriesError(f"a fault does not compile, see {log}")
    log = copy / "model.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [copy / "release" / "python", "-m", MODEL_TEST,
             "--steps", "100000000"], stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment(), start_new_session=True)
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
