"""Seeded faults: can the model test find a check that is missing?

Each fault is tried in a copy of the patched tree and its release build: one
edit, what it changes compiled anew, and the model test for a minute.
"""

import os
import re
import shutil
import signal
import subprocess

from common import SeriesError, clean_environment, say
import diffs

TIME_LIMIT = 60         # seconds
MODEL_TEST = "test.test_capi.test_monitoring_model"
INSTRUMENTATION = "Python/instrumentation.c"
CODELIKES = "Python/codelikes.c"
WAITING_CALLS = "Python/waiting_calls.c"

# The check that is missing, its file, the text that occurs once there and
# what stands in its place.
FAULTS = (
    ("no re-entry",
     INSTRUMENTATION, "tools == 0 || tstate->tracing", "tools == 0"),
    ("a tool that was switched off is not called",
     INSTRUMENTATION, "uint8_t tools = interp->monitors.tools[event];",
     "uint8_t tools = codelike ? 0xff : interp->monitors.tools[event];"),
    ("legacy tools get nothing",
     INSTRUMENTATION, "return tools & PRODUCER_TOOLS;", "return tools;"),
    ("INSTRUCTION is never active",
     INSTRUMENTATION, "if (event == PY_MONITORING_EVENT_INSTRUCTION) {",
     "if (0) {"),
    ("answers are on where CALL is",
     INSTRUMENTATION, "if ((1 << event) & C_RETURN_EVENTS) {\n        event =",
     "if (0) {\n        event ="),
    ("local events are for one code-like",
     INSTRUMENTATION, "if (local && codelike != NULL) {", "if (0) {"),
    ("local events make states active",
     INSTRUMENTATION, "tools |= local;",
     "if (codelike != NULL) { tools |= local; }"),
    ("the first callback that raises ends the event",
     INSTRUMENTATION,
     "if (res == NULL) {\n            err = -1;\n            break;",
     "if (res == NULL) {\n            err = -1;\n            continue;"),
    ("tools are called in the interpreter's order",
     INSTRUMENTATION,
     "while (tools) {\n        int tool = most_significant_bit(tools);\n"
     "        tools ^= (1 << tool);\n        PyObject *callback =",
     "while (tools) {\n        int tool = __builtin_ctz(tools);\n"
     "        tools ^= (1 << tool);\n        PyObject *callback ="),
    ("DISABLE of an event that cannot be disabled is an error",
     INSTRUMENTATION,
     "if (PY_MONITORING_IS_INSTRUMENTED_EVENT(event)) {\n"
     "            int disabled", "if (1) {\n            int disabled"),
    ("the callback that cannot disable is removed",
     INSTRUMENTATION,
     "Py_XDECREF(_PyMonitoring_RegisterCallback(tool, event, NULL));", ";"),
    ("DISABLE falls back on the state",
     INSTRUMENTATION, "if (!disabled) {", "if (0) {"),
    ("disabled locations are looked up",
     INSTRUMENTATION,
     "if (offset >= 0 && PY_MONITORING_IS_INSTRUMENTED_EVENT(event)",
     "if (0 && PY_MONITORING_IS_INSTRUMENTED_EVENT(event)"),
    ("negative offsets are errors",
     INSTRUMENTATION, "if (offset < 0) {", "if (0) {"),
    ("an exception event needs an exception",
     INSTRUMENTATION, "if (pending == NULL && ((1 << event)",
     "if (0 && ((1 << event)"),
    ("a StopIteration is reported as it is",
     INSTRUMENTATION, "&& !PyObject_TypeCheck(args[3],",
     "&& (PyTypeObject *)PyExc_Exception != (args[3],"),
    ("the pending exception is set again",
     INSTRUMENTATION,
     "if (err == 0) {\n        _PyErr_SetRaisedException(tstate, pending);",
     "if (err == 0) {\n        Py_XDECREF(pending);"),
    ("an error carries the pending exception",
     INSTRUMENTATION, "PyException_SetContext(link, pending);",
     "Py_DECREF(pending);"),
    ("chains of contexts are no rings",
     INSTRUMENTATION, "PyException_SetContext(link, NULL);", ";"),
    ("the pending exception comes before what was handled",
     INSTRUMENTATION, "&& context != handled", ""),
    ("a raised exception that carries the pending one stays",
     INSTRUMENTATION,
     "raised == pending || find_context(raised, pending) != NULL",
     "raised == pending"),
    ("the value of StopIteration is released",
     INSTRUMENTATION, "Py_XDECREF(stop);", ""),
    ("the version of a scope has the local events'",
     INSTRUMENTATION, "(uint64_t)local << 32 |", "(uint64_t)(local & 0) |"),
    ("the version of a scope has the global events'",
     INSTRUMENTATION, "| global_version(interp) | 1;", "| 1;"),
    ("states are not written when nothing changed",
     INSTRUMENTATION, "if (load_version(version) == scope_version(interp)) {",
     "if (0) {"),
    ("unknown events are errors",
     INSTRUMENTATION, "if (event_types[i] >= _PY_MONITORING_EVENTS) {",
     "if (0) {"),
    ("a code-like needs its attributes",
     INSTRUMENTATION, "if (!found) {", "if (0) {"),
    ("a code-like with local events can be weakly referenced",
     INSTRUMENTATION, "if (!_PyType_SUPPORTS_WEAKREFS(Py_TYPE(codelike))) {",
     "if (0) {"),
    ("free_tool_id forgets disabled locations and local events",
     INSTRUMENTATION, "_Py_codelikes_free_tool(interp, tool_id);", ""),
    ("free_tool_id forgets disabled locations",
     CODELIKES, "entry->locations[j] &= ~(UINT64_C(1) << tool);", ";"),
    ("free_tool_id forgets local events",
     CODELIKES, "entry->local_tools[event] & ~(1 << tool));",
     "entry->local_tools[event]);"),
    ("restart_events forgets disabled locations",
     INSTRUMENTATION, "_Py_codelikes_restart(interp);", ""),
    ("what is known of a code-like dies with it",
     CODELIKES,
     "codelike_entry *removed = remove_entry(state, (codelike_entry *)ref);",
     "codelike_entry *removed = ((void)ref, NULL);"),
    ("locations of different events are different",
     CODELIKES, "(uint64_t)(event + 1) << 40", "(uint64_t)1 << 40"),
    ("locations of different tools are different",
     CODELIKES, "*slot |= key | 1 << tool;", "*slot |= key | 0x3f;"),
    ("new local events leave those of the other tools",
     CODELIKES, "uint8_t tools = entry->local_tools[event] & ~(1 << tool);",
     "uint8_t tools = 0;"),
    ("the union of local events is counted",
     CODELIKES, "any = *count ? any | 1 << tool : any & ~(1 << tool);",
     "any |= 1 << tool;"),
    ("removing a code-like moves up what it pushed away",
     CODELIKES, "if (((j - home) & mask) >= ((j - i) & mask)) {", "if (0) {"),
    ("Python functions get no answer",
     INSTRUMENTATION, "if (!is_python_function(callable)) {", "if (1) {"),
    ("bound methods get no answer",
     INSTRUMENTATION, "if (PyMethod_Check(callable)) {", "if (0) {"),
    ("a CALL whose callback raises does not wait",
     INSTRUMENTATION, "if (err < 0 && waits > 0) {", "if (0) {"),
    ("a CALL disabled for a tool gives it no answer",
     INSTRUMENTATION, "tools &= ~call.disabled;", ""),
    ("what waits is dropped at the exit",
     INSTRUMENTATION, "_Py_waiting_calls_exit(tstate);", ""),
    ("an outer scope's CALL outlives the inner scope",
     WAITING_CALLS, "calls[waiting->num_calls - 1].depth >= depth",
     "calls[waiting->num_calls - 1].depth >= 0"),
    ("what waits dies with the code-like",
     CODELIKES,
     "_Py_waiting_calls_forget_codelike(interp, removed->address);", ""),
    ("an answer is for the CALL of its code-like",
     WAITING_CALLS,
     "if (waiting->calls[i].codelike == codelike) {\n"
     "            *call = take_index(waiting, i);\n            taken",
     "if (1) {\n            *call = take_index(waiting, i);\n"
     "            taken"),
    ("nothing waits when no tool wants answers",
     INSTRUMENTATION, "if (is->answer_tools == 0) {", "if (0) {"),
    ("a freed tool does not keep what waits",
     INSTRUMENTATION, "_Py_waiting_calls_free_tool(interp, tool_id);", ""),
)


def seed_faults(build):
    """Try every fault; return how many were not found.

    The unchanged copy must pass first: then what fails is the fault.
    """
    sources = {name: (build / "src" / name).read_text()
               for name in (INSTRUMENTATION, CODELIKES, WAITING_CALLS)}
    for title, name, old, _ in FAULTS:
        found = sources[name].count(old)
        if found != 1:
            raise SeriesError(f"{name}: the text to change for the fault "
                              f"'{title}' occurs {diffs.times(found)}, it "
                              f"must occur once: {old!r}")
    copy = build / "faults"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("src", "release"):
        subprocess.run(["cp", "-a", build / name, copy], check=True)
    outcome, found = try_model(copy)
    if found:
        raise SeriesError(f"the model test fails without a fault: {outcome}")
    missed = 0
    for title, name, old, new in FAULTS:
        path = copy / "src" / name
        path.write_text(sources[name].replace(old, new))
        outcome, found = try_model(copy)
        missed += not found
        say("fault", f"{title}: {outcome}")
        path.write_text(sources[name])
    print(f"{len(FAULTS) - missed} faults found, {missed} not found",
          flush=True)
    return missed


def try_model(copy):
    """Build a copy and run the model test until it fails or the time is up;
    return what happened and whether the test failed."""
    log = copy / "make.log"
    with open(log, "wb") as file:
        # What is frozen into the interpreter does not change with a fault.
        status = subprocess.run(
            ["make", "-o", "Programs/_freeze_module",
             "-o", "_bootstrap_python", "python"], cwd=copy / "release", stdout=file,
            stderr=subprocess.STDOUT, env=clean_environment()).returncode
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
