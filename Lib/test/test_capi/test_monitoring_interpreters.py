"""Interpreters beside each other, and their ends."""

import os
import subprocess
import sys
import textwrap
import unittest
from test import support
from test.support import import_helper, script_helper
from .monitoring_support import (DISABLE, TOOL_BITS, MonitoringTestCase,
                                 scope)

_testcapi = import_helper.import_module("_testcapi")


class TestInterpreters(MonitoringTestCase):

    def test_events_while_it_ends(self):
        # Callbacks are released; the destructor of one fires an event for
        # which another was registered.
        code = textwrap.dedent("""
            import os, sys, _testcapi

            class First:
                def __call__(self, code, offset):
                    pass

            class Second(First):
                def __del__(self, enter=_testcapi.monitoring_enter_scope,
                            fire=_testcapi.fire_event_py_start,
                            codelike=_testcapi.CodeLike(2), write=os.write):
                    enter(codelike, 0, 5)
                    fire(codelike, 0)
                    write(1, b"fired")

            M = sys.monitoring
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.PY_START, First())
            M.register_callback(3, M.events.LINE, Second())
            M.set_events(3, M.events.PY_START | M.events.LINE)
        """)
        _, out, err = script_helper.assert_python_ok("-c", code,
                                                     PYTHONMALLOC="debug")
        self.assertEqual((out, err), (b"fired", b""))

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_interpreters_do_not_see_each_other(self):
        calls = self.listen("LINE")
        code = textwrap.dedent("""
            import sys
            import _testcapi

            M = sys.monitoring
            LINE = 5
            codelike = _testcapi.CodeLike(1)
            _testcapi.monitoring_enter_scope(codelike, LINE)
            assert codelike.states == bytes(2), codelike.states
            _testcapi.fire_event_line(codelike, 0, 1)

            lines = []
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.LINE, lambda code, line:
                                lines.append(line) if code is codelike
                                else None)
            M.set_events(3, M.events.LINE)
            _testcapi.monitoring_enter_scope(codelike, LINE)
            assert codelike.states == bytes([1 << 3, 0]), codelike.states
            _testcapi.fire_event_line(codelike, 0, 2)
            M.set_events(3, 0)
            assert lines == [2], lines
        """)
        self.assertEqual(support.run_in_subinterp(code), 0)
        self.assertEqual(calls, [])
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_line(self.codelike, 0, 3)
        self.assertEqual(calls, [("LINE", self.codelike, 3)])

    def test_states_that_outlive_the_interpreter(self):
        # _testembed runs this four times, each in a new interpreter.
        build = os.path.dirname(sys._base_executable)
        testembed = os.path.join(build, "Programs", "_testembed")
        if not os.path.exists(testembed):
            self.skipTest("needs Programs/_testembed of a build")
        import_helper.import_module("ctypes")
        code = textwrap.dedent("""
            import ctypes
            import os
            import sys

            api = ctypes.pythonapi
            enter = api.PyMonitoring_EnterScope
            enter.argtypes = (ctypes.c_void_p, ctypes.c_void_p,
                              ctypes.c_char_p, ctypes.c_ssize_t)
            api.PyMem_RawCalloc.restype = ctypes.c_void_p
            first = "VERSION" not in os.environ
            if first:
                os.environ["VERSION"] = str(api.PyMem_RawCalloc(1, 16))
            version = int(os.environ["VERSION"])
            states = version + 8
            M = sys.monitoring
            M.use_tool_id(3, "test")
            M.set_events(3, M.events.PY_START if first else M.events.LINE)
            PY_START = 0
            enter(states, version, bytes([PY_START]), 1)
            print(ctypes.string_at(states)[0] & TOOL_BITS)
        """.replace("TOOL_BITS", str(TOOL_BITS)))
        result = subprocess.run(
            [testembed, "test_repeated_init_exec", code], capture_output=True,
            text=True, cwd=build, check=True)
        self.assertEqual(result.stdout.split(), [str(1 << 3)] + ["0"] * 3)

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_what_is_kept_ends_with_the_interpreter(self):
        code = textwrap.dedent("""
            import os
            import sys
            import _testcapi

            class Object:
                co_name = co_filename = "code"
                co_firstlineno = 1
                write = os.write
                def __del__(self):
                    self.write({end}, self.text)

            class Callback(Object):
                def __call__(self, *args):
                    return M.DISABLE

            def make(kind, text):
                made = kind()
                made.text = text
                return made

            M = sys.monitoring
            codelike = make(Object, b"codelike ")
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.LINE,
                                make(Callback, b"callback "))
            M.set_local_events(3, codelike, M.events.JUMP)
            M.set_events(3, M.events.LINE)
            LINE = 5
            _testcapi.Producer(codelike, (LINE,), ((LINE, 1, 1),))()
            if {off}:
                M.set_events(3, 0)
        """)
        for off in (False, True):
            start, end = os.pipe()
            self.assertEqual(support.run_in_subinterp(
                code.format(end=end, off=off)), 0)
            os.close(end)
            with open(start) as file:
                self.assertEqual(sorted(file.read().split()),
                                 ["callback", "codelike"])
        calls = self.listen("LINE", callback=lambda *args: DISABLE)
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_line(self.codelike, 0, 3)
        self.assertEqual(len(calls), 1)


if __name__ == "__main__":
    unittest.main()
