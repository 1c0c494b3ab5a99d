"""A module with the limited C-API, built once: what it is on each version."""

import sys
import traceback
import unittest

import _monitoring_abi3 as abi3
import _monitoring_layer as layer

M = sys.monitoring
E = M.events
TOOL = 3
SENDS = sys.version_info >= (3, 13)
EVENTS = "PY_START", "LINE", "PY_RETURN"
ALL = [("PY_START", 0), ("LINE", 1), ("PY_RETURN", 0, None)]


class Code:
    co_name = "page"
    co_filename = "page.src"
    co_firstlineno = 1


class TestEvents(unittest.TestCase):

    def setUp(self):
        self.seen = []
        self.code = layer.code_newwithlocations("page.src", "page", None, 1,
                                                [(1, 1, 0, 3)])
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        self.addCleanup(M.set_events, TOOL, 0)
        for name in EVENTS:
            M.register_callback(TOOL, getattr(E, name), self.recorder(name))
            self.addCleanup(M.register_callback, TOOL, getattr(E, name), None)

    def recorder(self, name):
        def record(code, *args):
            if code is self.code:
                self.seen.append((name, *args))
        return record

    def expect(self, expected):
        self.seen.clear()
        abi3.run(self.code)
        self.assertEqual(self.seen, expected if SENDS else [])

    def test_says_whether_it_sends(self):
        self.assertIs(abi3.sends_events(), SENDS)

    def test_events(self):
        self.expect([])
        M.set_events(TOOL, sum(getattr(E, name) for name in EVENTS))
        for self.code in Code(), self.code, None:
            self.expect(ALL)
        M.set_events(TOOL, E.LINE)
        self.expect(ALL[1:2])
        M.set_events(TOOL, 0)
        self.expect([])

    def test_every_name(self):
        # Whatever the ids are here.
        names = [name for name in vars(E) if name.isupper()
                 and name not in ("NO_EVENTS", "INSTRUCTION")]
        for name in names:
            with self.subTest(name):
                M.set_events(TOOL, E.CALL if name in ("C_RETURN", "C_RAISE")
                             else getattr(E, name))
                codelike = layer.CodeLike(1)
                layer.monitoring_enter_scope(
                    codelike, getattr(layer, "EVENT_" + name))
                self.assertEqual(codelike.states[0] >> TOOL & 1, SENDS)

    def test_ids_of_the_interpreter(self):
        M.set_events(TOOL, E.LINE)
        if SENDS:
            with self.assertRaises(ValueError):
                layer.monitoring_enter_scope(layer.CodeLike(1), 5)

    def test_local_events(self):
        # Of a tool that listens to something.
        def start(code, offset):
            if code is self.code:
                M.set_local_events(TOOL, self.code, E.LINE)

        M.register_callback(TOOL, E.PY_START, start)
        M.set_events(TOOL, E.PY_START)
        self.expect(ALL[1:2])
        M.set_local_events(TOOL, self.code, 0)

    def test_within_a_callback(self):
        def line(code, lineno):
            self.seen.append(lineno)
            abi3.run(self.code)

        M.register_callback(TOOL, E.LINE, line)
        M.set_local_events(TOOL, self.code, 0)
        M.set_events(TOOL, E.PY_RETURN)
        M.set_local_events(TOOL, self.code, E.LINE)
        self.expect([1, ALL[2]])
        M.set_local_events(TOOL, self.code, 0)

    def test_columns(self):
        code = layer.code_newwithlocations(
            "page.src", "page", None, 1, [(3, 3, 0, 4), (5, 6, 1, 2)])
        self.assertEqual([*code.co_positions()][:2],
                         [(3, 3, 0, 4), (5, 6, 1, 2)])
        exc = LookupError()
        layer.monitoring_add_traceback(exc, code, 2, 0)
        frame, = traceback.extract_tb(exc.__traceback__)
        self.assertEqual((frame.filename, frame.lineno, frame.end_lineno,
                          frame.colno, frame.end_colno, frame.name),
                         ("page.src", 5, 6, 1, 2, "page"))

    def test_traceback_signals_nothing(self):
        # The frame of its entry is never run.
        for name in ("PY_START", "PY_RETURN", "PY_UNWIND", "RAISE", "CALL",
                     "LINE"):
            M.register_callback(TOOL, getattr(E, name), lambda code, *args:
                                self.seen.append(code.co_name))
            self.addCleanup(M.register_callback, TOOL, getattr(E, name), None)
            M.set_events(TOOL, getattr(E, name))
            layer.monitoring_add_traceback(LookupError(), Code(), 0, 3)
            M.set_events(TOOL, 0)
            self.assertNotIn("page", self.seen)


if __name__ == "__main__":
    unittest.main()
