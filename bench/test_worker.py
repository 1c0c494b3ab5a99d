"""Tests of the worker, without an interpreter that could run it."""

import importlib.util
import itertools
import json
from pathlib import Path
import sys
import tempfile
import unittest
from unittest import mock

from bench import operations
from bench.columns import FOLDER


class Monitoring:
    """As much of sys.monitoring as worker.py uses to prepare operations."""

    events = mock.Mock(LINE=1)

    def __init__(self):
        self.callbacks = {}
        self.listeners = set()

    def use_tool_id(self, _tool, _name):
        """Let everybody use every tool."""

    def set_events(self, tool, events):
        """Remember who listens."""
        if events:
            self.listeners.add(tool)

    def set_local_events(self, tool, _codelike, events):
        """Remember who listens to some code-like."""
        self.set_events(tool, events)

    def free_tool_id(self, _tool):
        """Let everybody use every tool again."""

    def restart_events(self):
        """Forget nothing: nothing is disabled."""

    def register_callback(self, tool, event, callback):
        """Remember who is called for what."""
        self.callbacks[tool, event] = callback


class Frame:
    """The innermost frame of a stack, which records that it was seen."""

    def __init__(self, depth, seen):
        self.depth = depth
        self.seen = seen

    @property
    def f_back(self):
        """Return the next frame, if there is one."""
        self.seen.append(self)
        return Frame(self.depth - 1, self.seen) if self.depth else None


class WorkerTest(unittest.TestCase):
    """The worker, without an interpreter that could run it."""

    def setUp(self):
        self.monitoring = Monitoring()
        self.loops = mock.Mock()
        for patch in (
                mock.patch.object(sys, "monitoring", self.monitoring,
                                  create=True),
                mock.patch.dict(sys.modules, loops=self.loops),
                mock.patch.object(sys, "argv", ["worker.py", "folder"]),
                mock.patch.object(sys, "path", [str(FOLDER),
                                                *sys.path])):
            patch.start()
            self.addCleanup(patch.stop)
        spec = importlib.util.spec_from_file_location(
            "worker", FOLDER / "worker.py")
        self.worker = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.worker)

    def test_who_listens_has_a_callback_where_look_ups_are_measured(self):
        found = [operation for operation in operations.all_operations()
                 if operation.disabled[0] or operation.local
                 or operation.local_function
                 if operation.loop == "fire_Line"]
        self.assertGreater(len(found), 20)
        for operation in found:
            self.monitoring.__init__()
            self.worker.Prepared(operation, False)
            self.assertEqual(
                self.monitoring.callbacks,
                {(tool, 1): self.loops.ignore
                 for tool in range(operation.tools)}, operation.name)
            self.assertEqual(self.monitoring.listeners,
                             set(range(operation.tools)), operation.name)

    def fired_for(self, name, layout):
        """Return the code-likes that an operation fires for."""
        operation = operations.known()[name]
        prepared = self.worker.Prepared(operation, False, layout)
        return prepared, [codelike for codelike, _ in prepared.locations]

    def test_others_are_not_those_with_local_events(self):
        for name in operations.known():
            if "elsewhere" in name:
                prepared, fired_for = self.fired_for(name, 0)
                self.assertFalse({*map(id, fired_for)}
                                 & {*map(id, prepared.with_local_events)},
                                 name)
                self.assertEqual(len(prepared.with_local_events),
                                 prepared.operation.local or 1)

    def places(self, name):
        """Return for each layout the size of code-likes, and where they are.
        """
        for layout in range(operations.LAYOUTS):
            prepared, _ = self.fired_for(name, layout)
            made, = prepared.layout.made
            yield type(made[0]).__basicsize__, [
                made.index(codelike) for codelike in prepared.codelikes]

    def test_layouts_have_addresses_of_their_own(self):
        name = "disabled, 1000 in 100"
        sizes, places = zip(*self.places(name))
        self.assertEqual(list(zip(sizes, places)), list(self.places(name)))
        self.assertGreater(len({*sizes}), 10)
        gaps = {tuple(b - a for a, b in zip(each, each[1:]))
                for each in places}
        self.assertEqual(len(gaps), operations.LAYOUTS)

    def test_a_single_codelike_is_elsewhere_in_each_layout(self):
        _, places = zip(*self.places("disabled, 1 in 1"))
        self.assertGreater(len({place for place, in places}), 10)

    def test_each_layout_is_counted(self):
        line, name = "LINE, no callback", "disabled for 6 tools, 100 in 10"
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        done = Path(folder.name) / "done"
        self.loops.version.side_effect = itertools.count()
        self.worker.count(False, done, line, name)
        self.assertEqual(json.loads(done.read_text()), [line] + 20 * [name])

    def test_local_events_are_set_on_a_new_function_each_time(self):
        operation = operations.known()["set_local_events on a Python "
                                       "function"]
        prepared = self.worker.Prepared(operation, False)
        for n in (2, 2, 4):
            prepared.run("call", n)
        given = [arguments for call in self.loops.run.call_args_list
                 for arguments in call.args[7]]
        self.assertEqual(len({id(code) for _, code, _ in given}), 8)

    def test_the_functions_that_are_traced_have_the_same_events(self):
        frames = self.worker.frames
        code = frames.run_python.__code__
        frames.check_events(frames.run_python, None, code)
        for function in (lambda _: None, self.loops.run_foreign):
            with self.assertRaisesRegex(RuntimeError, "has the events"):
                frames.check_events(function, None, code)

    def test_looks_see_all_frames(self):
        frames = self.worker.frames
        for name, least in (("f_back", 100), ("sys._getframe", 40)):
            function, arguments = frames.TARGETS[name]
            with mock.patch.object(frames, "sys") as patched:
                seen = []
                patched._getframe.side_effect = (
                    lambda depth=0: seen.append(depth) or Frame(10, seen))
                function(*arguments)
            self.assertGreaterEqual(len(seen), least, name)

    def test_trace_functions_are_set_in_the_loop_alone(self):
        self.loops.run.side_effect = lambda *_: sys.gettrace()
        with mock.patch.object(self.worker.frames, "check_events"):
            prepared = self.worker.Prepared(
                operations.known()["run_python, trace function"], False)
        self.assertIs(prepared.run("call", 2), self.worker.frames.trace)
        self.assertIsNone(sys.gettrace())
