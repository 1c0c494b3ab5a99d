"""Include/cpython/monitoring.h as extensions compile it."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import unittest
from test import support
from test.support import import_helper, os_helper
from .monitoring_support import (E, EVENT_NAMES, OTHER_TOOL, TOOL,
                                 MonitoringTestCase, Plain, monitoring)


HEADER_SOURCE = """\
#include "Python.h"

int use_monitoring(PyObject *code, PyObject *obj);

int
use_monitoring(PyObject *code, PyObject *obj)
{{
    static const uint8_t types[] = {{ {types} }};
    PyMonitoringState states[sizeof(types)];
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(states, &version, types,
                                      (Py_ssize_t)sizeof(types));
    {calls}
    PyObject *res = PyMonitoring_Vectorcall(&states[0], &states[1], &states[2],
                                            code, 0, obj, NULL, 0, NULL);
    Py_XDECREF(res);
    err |= PY_MONITORING_IS_INSTRUMENTED_EVENT(types[0]);
    return err | PyMonitoring_ExitScope();
}}
"""


class TestHeader(unittest.TestCase):

    FIRE_ARGUMENTS = {
        "PyStart": "", "PyResume": "", "PyReturn": ", obj", "PyYield": ", obj",
        "Call": ", obj, obj", "Line": ", 1", "Jump": ", obj",
        "Branch": ", obj", "BranchLeft": ", obj", "BranchRight": ", obj",
        "CReturn": ", obj", "CallReturn": ", obj, obj",
        "CallRaise": ", obj, obj", "PyThrow": "", "Raise": "", "Reraise": "",
        "ExceptionHandled": "", "CRaise": "", "PyUnwind": "",
        "StopIteration": ", obj",
    }
    # Every warning, but where it stands in something else of CPython's.
    WARNINGS = ("-Wall", "-Wextra", "-pedantic")

    @staticmethod
    def compiler(variable):
        return shlex.split(sysconfig.get_config_var(variable) or "")[:1]

    def compile(self, compiler, flags, name, source):
        """Return the exit status and what the compiler said."""
        path = os.path.join(self.enterContext(os_helper.temp_dir()), name)
        with open(path, "w") as file:
            file.write(source)
        config_h = os.path.dirname(sysconfig.get_config_h_filename())
        command = [*compiler, *flags, "-fsyntax-only",
                   "-I" + sysconfig.get_path("include"), "-I" + config_h, path]
        # The test looks for words of the compiler's own language.
        done = subprocess.run(command, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              env=os.environ | {"LC_ALL": "C"})
        return done.returncode, done.stdout

    def check(self, variable, standard, suffix):
        compiler = self.compiler(variable)
        try:
            status, output = self.compile(compiler, ["-std=" + standard],
                                          "alone" + suffix,
                                          '#include "Python.h"\n')
        except (OSError, IndexError, ValueError):
            self.skipTest(f"no compiler for {standard}")
        if status:
            self.skipTest(f"Python.h alone does not compile as {standard}")
        ids = [f"PY_MONITORING_EVENT_{name}" for name in EVENT_NAMES]
        ids += ["PY_MONITORING_EVENT_BRANCH_LEFT",
                "PY_MONITORING_EVENT_BRANCH_RIGHT"]
        source = HEADER_SOURCE.format(
            types=", ".join(ids),
            calls="\n    ".join(
                f"err |= PyMonitoring_Fire{name}Event(&states[{i}], code, 0"
                f"{args});"
                for i, (name, args) in enumerate(self.FIRE_ARGUMENTS.items())))
        status, output = self.compile(
            compiler, ["-std=" + standard, *self.WARNINGS],
            "producer" + suffix, source)
        self.assertEqual(status, 0, output)
        ours = [line for line in output.splitlines()
                if re.search(r"(monitoring\.h|producer\.\w+):\d+", line)]
        self.assertEqual(ours, [], output)

    def test_exported_functions(self):
        ctypes = import_helper.import_module("ctypes")
        for name in self.FIRE_ARGUMENTS:
            if name not in ("BranchLeft", "BranchRight"):
                getattr(ctypes.pythonapi, f"_PyMonitoring_Fire{name}Event")
        ctypes.pythonapi._PyMonitoring_Vectorcall
        ctypes.pythonapi.PyMonitoring_EnterScope
        self.assertEqual(ctypes.pythonapi.PyMonitoring_ExitScope(), 0)


class TestVersion(MonitoringTestCase):
    """What the inline functions of the header look at."""

    ANY_LISTENS = 1

    def setUp(self):
        super().setUp()
        ctypes = import_helper.import_module("ctypes")
        self.word = ctypes.c_size_t.in_dll(ctypes.pythonapi,
                                           "_PyMonitoring_Version")
        self.last = 0

    def check(self, listens):
        """It says whether somebody listens, and never goes back."""
        version = self.word.value
        self.assertEqual(version & self.ANY_LISTENS, listens)
        self.assertGreaterEqual(version & ~self.ANY_LISTENS, self.last)
        self.last = version & ~self.ANY_LISTENS

    def test_listening(self):
        self.check(False)
        for name in EVENT_NAMES:
            monitoring.register_callback(TOOL, getattr(E, name),
                                         lambda *args: None)
        self.check(False)
        monitoring.set_events(TOOL, E.PY_THROW)
        self.check(True)
        monitoring.set_events(TOOL, 0)
        self.check(False)
        # Local events of a code-like make a tool one that is in use.
        codelike = Plain()
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        self.check(True)
        monitoring.set_local_events(TOOL, codelike, 0)
        self.check(True)
        monitoring.free_tool_id(TOOL)
        self.check(False)
        monitoring.use_tool_id(TOOL, "another")
        self.check(False)

    def test_changes(self):
        self.check(False)
        for change in (lambda: monitoring.set_events(TOOL, E.PY_THROW),
                       lambda: monitoring.set_events(TOOL, E.RAISE),
                       lambda: monitoring.set_events(OTHER_TOOL, E.RAISE),
                       monitoring.restart_events,
                       lambda: monitoring.set_events(TOOL, 0)):
            before = self.word.value
            change()
            self.assertNotEqual(self.word.value, before)
            self.check(True)
        # Nothing that states depend on.
        before = self.word.value
        monitoring.set_events(OTHER_TOOL, E.RAISE)
        monitoring.register_callback(OTHER_TOOL, E.RAISE, lambda *args: None)
        monitoring.register_callback(TOOL, E.PY_THROW, lambda *args: None)
        self.assertEqual(self.word.value, before)

    def test_interpreter_that_ends(self):
        _interpreters = import_helper.import_module("_interpreters")
        self.check(False)
        for choose in ("set_events(2,", "set_local_events(2, f.__code__,"):
            interp = _interpreters.create()
            _interpreters.exec(interp, f"""if True:
                import sys
                def f(): pass
                M = sys.monitoring
                M.use_tool_id(2, "test")
                M.{choose} M.events.LINE)
            """)
            self.check(True)
            _interpreters.destroy(interp)
            self.check(False)

    def test_legacy_tools(self):
        for setter in (sys.settrace, sys.setprofile):
            setter(lambda *args: None)
            try:
                self.check(True)
            finally:
                setter(None)
            self.check(False)


def _add_header_tests():
    def add(variable, standard, suffix):
        @support.requires_subprocess()
        @unittest.skipIf(support.MS_WINDOWS, "options of GCC and Clang")
        def test(self):
            self.check(variable, standard, suffix)
        name = "test_compiles_as_" + standard.replace("+", "x")
        setattr(TestHeader, name, test)

    for standard in ("c99", "c11", "c17", "c2x", "gnu17"):
        add("CC", standard, ".c")
    for standard in ("c++11", "c++14", "c++17", "c++20", "c++2b", "gnu++17"):
        add("CXX", standard, ".cpp")


_add_header_tests()


if __name__ == "__main__":
    unittest.main()
