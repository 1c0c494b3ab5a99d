"""What the clients of the header need that the API's tests do not have."""

import importlib.util
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import threading
import unittest
import weakref
from test import support
from test.support import script_helper

import _monitoring_layer as layer

M = sys.monitoring
E = M.events
TOOL = LISTENER = 3
DISABLER = 4
RESTLESS = 5
ANSWERS = not (layer.HEADER_ADDS
               and sysconfig.get_config_var("Py_GIL_DISABLED"))
EVENTS = {"PY_START": E.PY_START, "LINE": E.LINE, "PY_RETURN": E.PY_RETURN}


class Code:
    co_name = "compiled"
    co_filename = "compiled.src"
    co_firstlineno = 1


class TestOneStateEach(unittest.TestCase):
    """A just-in-time compiler's way: see one_state_each() in layer.c."""

    def setUp(self):
        self.told = []
        self.code = Code()
        self.result = None
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        self.addCleanup(M.set_events, TOOL, 0)
        for name, event in EVENTS.items():
            M.register_callback(TOOL, event, self.recorder(name))
            self.addCleanup(M.register_callback, TOOL, event, None)

    def recorder(self, name):
        def record(code, *args):
            if code is self.code:
                self.told.append((name, *args))
                return self.result
        return record

    def switch(self, *names):
        M.set_events(TOOL, sum(EVENTS[name] for name in names))

    def test_all(self):
        self.switch(*EVENTS)
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.told, [("PY_START", 0), ("LINE", 1),
                                     ("LINE", 2), ("PY_RETURN", 0, None)])

    def test_nobody(self):
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.told, [])

    def test_switched_on_in_mid_function(self):
        layer.one_state_each(self.code, lambda: self.switch(*EVENTS))
        self.assertEqual(self.told, [("LINE", 2), ("PY_RETURN", 0, None)])

    def test_switched_off_in_mid_function(self):
        self.switch(*EVENTS)
        layer.one_state_each(self.code, lambda: self.switch("PY_RETURN"))
        self.assertEqual(self.told, [("PY_START", 0), ("LINE", 1),
                                     ("PY_RETURN", 0, None)])

    def test_disabled(self):
        # Each event and each line by itself, though the offset is always 0.
        self.result = M.DISABLE
        self.switch(*EVENTS)
        for _ in range(3):
            layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.told, [("PY_START", 0), ("LINE", 1),
                                     ("LINE", 2), ("PY_RETURN", 0, None)])
        M.restart_events()
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(len(self.told), 8)


class TestFirstUse(unittest.TestCase):

    SCRIPT = textwrap.dedent("""
        import sys
        import _testcapi as layer

        def first(*args):
            pass

        def fails(n):
            try:
                layer.set_nomemory(n, 0)
                layer.monitoring_enter_scope(codelike, LINE)
            except MemoryError:
                layer.remove_mem_hooks()
                return True
            layer.remove_mem_hooks()
            return False

        M = sys.monitoring
        E = M.events
        LINE = E.LINE.bit_length() - 1
        codelike = layer.CodeLike(1)
        for tool in 0, 5:
            for event in E.PY_START, E.C_RAISE:
                M.register_callback(tool, event, first)
        n = 0
        while fails(n):
            n += 1
            for tool in 0, 5:
                for event in E.PY_START, E.C_RAISE:
                    found = M.register_callback(tool, event, first)
                    assert found is first, (n, tool, event, found)
        print(n)
        M.use_tool_id(3, "test")
        M.set_events(3, E.LINE)
        layer.monitoring_enter_scope(codelike, LINE)
        assert codelike.states == bytes((1 << 3, 0)), codelike.states
    """)

    def test_no_memory(self):
        # All allocations of the first use fail from one on, each in turn.
        _, out, _ = script_helper.assert_python_ok("-c", self.SCRIPT)
        if layer.HEADER_ADDS and sys.version_info < (3, 13):
            self.assertGreater(int(out), 50)


class TestNames(unittest.TestCase):

    SCRIPT = textwrap.dedent("""
        import faulthandler
        import sys
        import _testcapi as layer

        class Name(str):
            def __del__(self):
                fire()

        def fire():
            layer.monitoring_enter_scope(codelike, LINE)
            layer.fire_event_line(codelike, 0, len(told))
            layer.monitoring_exit_scope()

        def callback(code, line):
            if code is codelike:
                told.append(line)
                return M.DISABLE

        M = sys.monitoring
        LINE = M.events.LINE.bit_length() - 1
        codelike = layer.WeakCodeLike(1)
        told = []
        faulthandler.dump_traceback_later(60, exit=True)
        M.register_callback(4, M.events.LINE, callback)
        for i in range(3):
            M.use_tool_id(4, Name(i))
            # From 3.14 on a freed tool loses both.
            M.register_callback(4, M.events.LINE, callback)
            M.set_events(4, M.events.LINE)
            fire()
            M.free_tool_id(4)
        faulthandler.cancel_dump_traceback_later()
        print(told[:2])
    """)

    def test_finalizer_that_fires(self):
        # The header holds a tool's name, at last alone.
        out = script_helper.assert_python_ok("-c", self.SCRIPT)[1]
        self.assertEqual(out, b"[0, 1]\n")


class TestLastUse(unittest.TestCase):

    SCRIPT = textwrap.dedent("""
        import builtins
        import os
        import sys
        import _testcapi as layer

        M = sys.monitoring
        E = M.events
        events = E.LINE, E.CALL, E.C_RETURN
        codelike = layer.WeakCodeLike(3)
        told = []

        def callback(code, *args, codelike=codelike, told=told,
                     result=M.DISABLE):
            if code is codelike:
                told.append(args)
                # A LINE alone has one argument more.
                return result if args[1:] == () else None

        class Late:
            def __del__(self, codelike=codelike, told=told, layer=layer,
                        types=[event.bit_length() - 1 for event in events],
                        write=os.write):
                layer.monitoring_enter_scope(codelike, *types)
                for _ in range(2):
                    layer.fire_event_line(codelike, 0, 7)
                layer.fire_event_call(codelike, 1, "callable", "argument")
                layer.fire_event_c_return(codelike, 2, None)
                layer.monitoring_exit_scope()
                write(1, repr(told).encode())

        M.use_tool_id(3, "test")
        for event in events:
            M.register_callback(3, event, callback)
        M.set_events(3, E.LINE | E.CALL)
        # It goes when sys.modules is empty.
        builtins.late = Late()
    """)

    def test_at_the_end_of_the_interpreter(self):
        _, out, err = script_helper.assert_python_ok("-c", self.SCRIPT)
        told = [(7,), (1, "callable", "argument")]
        if ANSWERS:
            told.append((2, "callable", "argument"))
        self.assertEqual((out.decode(), err), (repr(told), b""))


class TestTwoFiles(unittest.TestCase):
    """What one source file fires and another hears of."""

    def setUp(self):
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        self.addCleanup(M.set_events, TOOL, 0)

    def listen(self, event, callback, events):
        M.register_callback(TOOL, event, callback)
        self.addCleanup(M.register_callback, TOOL, event, None)
        M.set_events(TOOL, events)

    def test_disabled(self):
        def callback(told_code, line):
            if told_code is code:
                told.append(line)
                return M.DISABLE

        code = Code()
        told = []
        self.listen(E.LINE, callback, E.LINE)
        layer.one_state_each(code, lambda: None)
        self.assertEqual(told, [1, 2])
        layer.fire_elsewhere(code)
        self.assertEqual(told, [1, 2])

    @unittest.skipUnless(ANSWERS, "answers are not sent")
    def test_answer(self):
        def callback(told_code, offset, *args):
            if told_code is codelike:
                told.append(args)

        codelike = layer.CodeLike(1)
        told = []
        self.listen(E.C_RETURN, callback, E.CALL)
        layer.monitoring_enter_scope(codelike, E.CALL.bit_length() - 1)
        layer.fire_event_call(codelike, 0, len, "argument")
        layer.fire_elsewhere(codelike)
        layer.monitoring_exit_scope()
        self.assertEqual(told, [(len, "argument")])


@unittest.skipUnless(ANSWERS, "answers are not sent")
class TestTwoExtensions(unittest.TestCase):
    """Each has its own copy of the header."""

    def test_first_call_of_one(self):
        # It began to count the scopes later than the other.
        def callback(code, offset, callable, arg0):
            if isinstance(code, (layer.CodeLike, other.CodeLike)):
                told.append(arg0)

        def call(extension, argument, between=lambda: None):
            codelike = extension.CodeLike(2)
            extension.monitoring_enter_scope(
                codelike, *(event.bit_length() - 1
                            for event in (E.CALL, E.C_RETURN)))
            extension.fire_event_call(codelike, 0, len, argument)
            between()
            extension.fire_event_c_return(codelike, 0, None, state=1)
            extension.monitoring_exit_scope()

        directory = self.enterContext(tempfile.TemporaryDirectory())
        spec = importlib.util.spec_from_file_location(
            layer.__name__, shutil.copy(layer.__file__, directory))
        other = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(other)
        told = []
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        M.register_callback(TOOL, E.C_RETURN, callback)
        self.addCleanup(M.register_callback, TOOL, E.C_RETURN, None)
        M.set_events(TOOL, E.CALL)
        self.addCleanup(M.set_events, TOOL, 0)
        call(layer, 1)
        call(layer, 2, lambda: call(other, 3))
        self.assertEqual(told, [1, 3, 2])


@unittest.skipUnless(ANSWERS, "answers are not sent")
class TestCallbacksOfAnswers(unittest.TestCase):
    """The header may have to take a callback away to see it."""

    SCRIPT = textwrap.dedent("""
        import sys
        import _testcapi as layer

        def first(code, *args):
            if code is codelike:
                told.append(args)

        def second(*args):
            pass

        def hook(name, args):
            global asked
            if name == "sys.monitoring.register_callback" and armed:
                asked += 1
                if asked == AT:
                    {action}

        M = sys.monitoring
        E = M.events
        CALL, C_RETURN = (e.bit_length() - 1 for e in (E.CALL, E.C_RETURN))
        codelike = layer.CodeLike(2)
        M.use_tool_id(3, "test")
        M.register_callback(3, E.C_RETURN, first)
        M.set_events(3, E.CALL)
        layer.monitoring_enter_scope(codelike, CALL, C_RETURN)
        armed = asked = 0
        told = []
        sys.addaudithook(hook)
        layer.fire_event_call(codelike, 0, len, "argument")
        armed = 1
        try:
            layer.fire_event_c_return(codelike, 0, None)
        except RuntimeError as error:
            print(error)
        armed = 0
        M.set_events(3, 0)
        for args in told:
            print(*args)
        print(M.register_callback(3, E.C_RETURN, None).__name__)
    """)

    ASKS = layer.HEADER_ADDS and sys.version_info >= (3, 13)
    TOLD = ["0 <built-in function len> argument"]

    def run_script(self, action, at):
        script = self.SCRIPT.replace("{action}", action).replace("AT", str(at))
        return script_helper.assert_python_ok(
            "-c", script)[1].decode().splitlines()

    def test_stays(self):
        self.assertEqual(self.run_script("pass", 1), [*self.TOLD, "first"])

    def test_another_is_registered_meanwhile(self):
        # A hook runs before the callback is taken away, and again before it
        # is put back.
        action = "M.register_callback(3, E.C_RETURN, second)"
        for at, told in ((1, []), (2, self.TOLD)):
            with self.subTest(at):
                self.assertEqual(self.run_script(action, at),
                                 [*told, "second"] if self.ASKS
                                 else [*self.TOLD, "first"])

    def test_refused(self):
        self.assertEqual(self.run_script("raise RuntimeError('refused')", 1),
                         ["refused", "first"] if self.ASKS
                         else [*self.TOLD, "first"])


def run_threads(test, function):
    """Run a function in some threads at once."""
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    test.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    test.assertEqual(errors, [])


class TestInterpreters(unittest.TestCase):
    """Interpreters with a GIL of their own, which run at the same time."""

    SCRIPT = textwrap.dedent("""
        import sys
        import _monitoring_layer as layer

        class Code:
            pass

        def callback(told_code, line):
            if told_code is code:
                told.append(line)
                return M.DISABLE

        M = sys.monitoring
        LINE = M.events.LINE
        M.use_tool_id(3, "test")
        M.register_callback(3, LINE, callback)
        for _ in range(20):
            code = Code()
            told = []
            M.set_events(3, LINE)
            for _ in range(5):
                layer.one_state_each(code, lambda: None)
            M.set_events(3, 0)
            assert told == [1, 2], told
    """)

    def test_own_gil(self):
        def function():
            for _ in range(3):
                self.assertEqual(support.run_in_subinterp_with_config(
                    self.SCRIPT, own_gil=True, use_main_obmalloc=False,
                    allow_fork=False, allow_exec=False, allow_threads=True,
                    allow_daemon_threads=False,
                    check_multi_interp_extensions=True), 0)

        run_threads(self, function)


class TestThreads(unittest.TestCase):
    """What threads share; without a GIL they run at the same time."""

    def setUp(self):
        for tool in (LISTENER, DISABLER, RESTLESS):
            M.use_tool_id(tool, "test")
            self.addCleanup(M.free_tool_id, tool)
            self.addCleanup(M.set_events, tool, 0)
            self.addCleanup(M.register_callback, tool, E.LINE, None)
        self.told = threading.local()

    def listen(self, tool, result):
        def callback(code, line):
            if isinstance(code, (Code, layer.WeakCodeLike)):
                if result is None:
                    self.told.lines.append(line)
                return result

        M.register_callback(tool, E.LINE, callback)
        M.set_events(tool, E.LINE)

    def test_states(self):
        def function():
            self.told.lines = []
            for i in range(300):
                layer.monitoring_enter_scope(shared[i], LINE)
                layer.fire_event_line(shared[i], 0, i)
                layer.monitoring_exit_scope()
                # Another tool comes and goes.
                M.set_events(RESTLESS, E.JUMP if i % 2 else 0)
            self.assertEqual(self.told.lines, [*range(300)])

        LINE = E.LINE.bit_length() - 1
        shared = [layer.WeakCodeLike(1) for _ in range(300)]
        self.listen(LISTENER, None)
        run_threads(self, function)

    def test_disabled(self):
        def function():
            self.told.lines = []
            for i in range(300):
                layer.one_state_each(shared[i % 3], lambda: None)
                # It dies with what was disabled for it.
                layer.one_state_each(Code(), lambda: None)
                if i % 10 == 0:
                    M.restart_events()
                    M.set_events(RESTLESS, E.JUMP if i % 20 else 0)
            self.assertEqual(self.told.lines, [1, 2] * 600)

        shared = [Code(), Code(), Code()]
        self.listen(LISTENER, None)
        self.listen(DISABLER, M.DISABLE)
        run_threads(self, function)


class Argument:
    """The argument of a call."""


class TestUnpaired(unittest.TestCase):

    def test_calls_that_wait_are_bounded(self):
        # Where they are kept at all; the oldest go.
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        self.addCleanup(M.set_events, TOOL, 0)
        M.register_callback(TOOL, E.C_RETURN, lambda *args: None)
        self.addCleanup(M.register_callback, TOOL, E.C_RETURN, None)
        M.set_events(TOOL, E.CALL)
        codelike = layer.CodeLike(1)
        alive = weakref.WeakSet()
        for _ in range(20_000):
            layer.monitoring_enter_scope(codelike, 4)
            argument = Argument()
            alive.add(argument)
            layer.fire_event_call(codelike, 0, len, argument)
        self.assertLess(len(alive), 15_000)


if __name__ == "__main__":
    unittest.main()
