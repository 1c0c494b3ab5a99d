"""What the clients of the header need that the API's tests do not have."""

import importlib.util
import linecache
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import threading
import traceback
import unittest
from test import support
from test.support import script_helper

import _monitoring_layer as layer

M = sys.monitoring
E = M.events
TOOL = LISTENER = 3
DISABLER = 4
RESTLESS = 5
# The events of a call that are sent.
C_RETURNS = not (layer.HEADER_ADDS
                 and sysconfig.get_config_var("Py_GIL_DISABLED"))
# What compares the interpreter's tables with what sys.monitoring says.
CHECKS = layer.HEADER_ADDS and sys.version_info < (3, 13)
EVENTS = {"PY_START": E.PY_START, "LINE": E.LINE, "PY_RETURN": E.PY_RETURN}


class Code:
    co_name = "compiled"
    co_filename = "compiled.src"
    co_firstlineno = 1


class OneStateEachTestCase(unittest.TestCase):
    """A just-in-time compiler's way: see one_state_each() in layer.c."""

    def setUp(self):
        self.seen = []
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
                self.seen.append((name, *args))
                return self.result
        return record

    def switch(self, *names):
        M.set_events(TOOL, sum(EVENTS[name] for name in names))


class TestAnywhere(OneStateEachTestCase):
    """What holds without the header too, on any interpreter with the API."""

    def test_all(self):
        self.switch(*EVENTS)
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.seen, [("PY_START", 0), ("LINE", 1),
                                     ("LINE", 2), ("PY_RETURN", 0, None)])

    def test_nobody(self):
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.seen, [])

    def test_switched_on_in_mid_function(self):
        layer.one_state_each(self.code, lambda: self.switch(*EVENTS))
        self.assertEqual(self.seen, [("LINE", 2), ("PY_RETURN", 0, None)])

    def test_calls(self):
        # What the interpreter lacks does nothing, or is the bare call.
        def record(name):
            def callback(code, *args):
                if code is codelike:
                    seen.append((name, *args))
            return callback

        codelike = layer.CodeLike(3)
        seen = []
        for name in "CALL", "C_RETURN", "C_RAISE":
            event = getattr(E, name)
            M.register_callback(TOOL, event, record(name))
            self.addCleanup(M.register_callback, TOOL, event, None)
        M.set_events(TOOL, E.CALL)
        call = E.CALL.bit_length() - 1
        # A state of another event gates as well.
        layer.monitoring_enter_scope(codelike, call, call, call)
        layer.fire_event_call_return(codelike, 0, len, "x")
        layer.fire_event_call_raise(codelike, 1, len, "x", KeyError())
        self.assertEqual(layer.monitoring_vectorcall(codelike, 2, len, "x"), 1)
        with self.assertRaises(TypeError):
            layer.monitoring_vectorcall(codelike, 3, len, 1)
        layer.monitoring_vectorcall(codelike, 4, record, name="x")
        M.set_events(TOOL, 0)
        expected = [
            ("C_RETURN", 0, len, "x"), ("C_RAISE", 1, len, "x"),
            ("CALL", 2, len, "x"), ("C_RETURN", 2, len, "x"),
            ("CALL", 3, len, 1), ("C_RAISE", 3, len, 1),
            ("CALL", 4, record, M.MISSING),
        ]
        if layer.LACKS_CALLS:
            expected = []
        elif not C_RETURNS:
            expected = [event for event in expected if event[0] == "CALL"]
        self.assertEqual(seen, expected)


class TestOneStateEach(OneStateEachTestCase):

    def test_switched_off_in_mid_function(self):
        self.switch(*EVENTS)
        layer.one_state_each(self.code, lambda: self.switch("PY_RETURN"))
        self.assertEqual(self.seen, [("PY_START", 0), ("LINE", 1),
                                     ("PY_RETURN", 0, None)])

    def test_disabled(self):
        # Each event and each line by itself, though the offset is always 0.
        self.result = M.DISABLE
        self.switch(*EVENTS)
        for _ in range(3):
            layer.one_state_each(self.code, lambda: None)
        self.assertEqual(self.seen, [("PY_START", 0), ("LINE", 1),
                                     ("LINE", 2), ("PY_RETURN", 0, None)])
        M.restart_events()
        layer.one_state_each(self.code, lambda: None)
        self.assertEqual(len(self.seen), 8)


class TestLocalEvents(OneStateEachTestCase):
    """Of a code object that PyCode_NewWithLocations() made."""

    ALL = [("PY_START", 0), ("LINE", 1), ("LINE", 2), ("PY_RETURN", 0, None)]

    def setUp(self):
        super().setUp()
        self.code, self.other = (
            layer.code_newwithlocations("page.src", name, None, 1,
                                        [(1, 1, 0, 3), (2, 2, 0, 3)])
            for name in ("page", "other"))
        self.addCleanup(self.choose)

    def choose(self, *names, tool=TOOL):
        M.set_local_events(tool, self.code, sum(EVENTS[name]
                                                for name in names))

    def run_both(self, change=lambda: None):
        self.seen.clear()
        layer.one_state_each(self.other, lambda: None)
        layer.one_state_each(self.code, change)
        return self.seen

    def test_nobody_listens_to_all(self):
        self.choose(*EVENTS)
        self.assertEqual(self.run_both(), self.ALL)
        self.choose("LINE")
        self.assertEqual(self.run_both(), self.ALL[1:3])
        self.choose()
        self.assertEqual(self.run_both(), [])

    def test_chosen_in_the_activation(self):
        self.assertEqual(self.run_both(lambda: self.choose(*EVENTS)),
                         self.ALL[2:])
        self.assertEqual(self.run_both(self.choose), self.ALL[:2])

    def test_chosen_in_the_callback_that_begins_it(self):
        # As coverage tools and debuggers do.
        def start(code, offset):
            if code is self.code:
                self.choose("LINE", "PY_RETURN")
            return M.DISABLE

        M.register_callback(TOOL, E.PY_START, start)
        self.switch("PY_START")
        for _ in range(2):
            self.assertEqual(self.run_both(), self.ALL[1:])

    def test_once_where_all_are_listened_to(self):
        self.choose(*EVENTS)
        self.switch(*EVENTS)
        self.assertEqual(self.run_both(), self.ALL)

    def test_disabled(self):
        self.result = M.DISABLE
        self.choose(*EVENTS)
        self.assertEqual(self.run_both(), self.ALL)
        self.assertEqual(self.run_both(), [])
        M.restart_events()
        self.assertEqual(self.run_both(), self.ALL)

    def test_only_the_tool_that_chose(self):
        def listen(tool):
            M.use_tool_id(tool, "test")
            self.addCleanup(M.free_tool_id, tool)
            self.addCleanup(M.register_callback, tool, E.LINE, None)
            M.register_callback(tool, E.LINE, lambda code, line:
                                seen.append((tool, line)))

        seen = []
        listen(DISABLER)
        listen(RESTLESS)
        self.choose("LINE", tool=RESTLESS)
        self.addCleanup(self.choose, tool=RESTLESS)
        self.choose("PY_RETURN")
        self.assertEqual(self.run_both(), self.ALL[3:])
        self.assertEqual(seen, [(RESTLESS, 1), (RESTLESS, 2)])

    def test_freed_tool(self):
        # A code object keeps its events, as for bytecode, up to 3.13.
        M.use_tool_id(DISABLER, "test")
        self.choose("LINE", tool=DISABLER)
        M.free_tool_id(DISABLER)
        self.choose("LINE")
        self.assertEqual(self.run_both(), self.ALL[1:3])

    def test_errors_of_callbacks(self):
        def fail(code, line):
            raise ZeroDivisionError

        M.register_callback(TOOL, E.LINE, fail)
        self.choose("LINE")
        with self.assertRaises(ZeroDivisionError):
            layer.fire_elsewhere(self.code)

    def test_bad_arguments(self):
        # Found only while somebody listens.
        codelike = layer.CodeLike(1)
        layer.fire_event_line(codelike, -1, 1)
        self.choose("LINE")
        self.assertEqual(self.run_both(), self.ALL[1:3])


class TestTraceback(unittest.TestCase):
    """With columns, where the code-like has them."""

    SOURCE = "first = 1\nanswer = some + other\n"

    class Template:
        co_name = "page"
        co_filename = "page.src"
        co_firstlineno = 1

        def co_positions(self):
            yield from ((1, 1, 0, 5), (2, 2, 9, 21))

    class Includes(Template):
        co_filename = "including.src"

        def co_location(self, offset):
            return ("page.src", *[*self.co_positions()][offset // 2])

    def entry(self, codelike, lineno):
        """Format the entry that is added for the second location."""
        name = codelike.co_filename
        for name in "page.src", "including.src":
            linecache.cache[name] = (len(self.SOURCE), None,
                                     self.SOURCE.splitlines(True), name)
            self.addCleanup(linecache.cache.pop, name, None)
        exc = LookupError()
        self.assertEqual(
            layer.monitoring_add_traceback(exc, codelike, 2, lineno), 0)
        return "".join(traceback.format_tb(exc.__traceback__))

    def test_columns(self):
        code = layer.code_newwithlocations(
            "page.src", "page", None, 1, [*self.Template().co_positions()])
        for codelike in self.Template(), self.Includes(), code:
            for lineno in 0, 2:
                with self.subTest(codelike, lineno=lineno):
                    self.assertEqual(
                        self.entry(codelike, lineno),
                        '  File "page.src", line 2, in page\n'
                        "    answer = some + other\n"
                        "             ~~~~~^~~~~~~\n")
            with self.subTest(codelike, lineno=1):
                self.assertEqual(self.entry(codelike, 1),
                                 '  File "page.src", line 1, in page\n'
                                 "    first = 1\n")

    def test_code_with_free_variables(self):
        variable = 1
        exc = LookupError()
        code = (lambda: variable).__code__
        layer.monitoring_add_traceback(exc, code, 0, 0)
        # On 3.12 a frame without a closure crashes here.
        self.assertIsNotNone(exc.__traceback__.tb_frame.f_locals)
        self.assertEqual(exc.__traceback__.tb_lineno, code.co_firstlineno)

    def test_first_code_where_the_stack_ends(self):
        # What fails then says nothing of how locations are read.
        script = textwrap.dedent("""
            import sys
            import _monitoring_layer as layer

            def make():
                return layer.code_newwithlocations(
                    "f", "n", None, 1, [(3, 3, 4, 5)])

            def descend():
                try:
                    descend()
                except RecursionError:
                    failed.append(0)
                    make()
                    failed.pop()
                    raise

            # Importing it takes some stack.
            sys.modules.pop("opcode", None)
            failed = []
            try:
                descend()
            except RecursionError:
                pass
            print(len(failed), next(make().co_positions()))
        """)
        _, out, _ = script_helper.assert_python_ok("-c", script)
        failed, _, position = out.decode().strip().partition(" ")
        self.assertEqual(position, "(3, 3, 4, 5)")
        if layer.HEADER_ADDS:
            self.assertNotEqual(failed, "0")


class TestFirstUse(unittest.TestCase):
    """On 3.12 the header compares the tables at first use."""

    NO_MEMORY = textwrap.dedent("""
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
        corners = [(tool, event) for tool in (0, 5)
                   for event in (E.PY_START, E.C_RAISE)]
        for corner in corners:
            M.register_callback(*corner, first)
        M.use_tool_id(3, "test")
        M.set_events(3, E.LINE)
        n = 0
        while fails(n):
            n += 1
            assert codelike.states == bytes(2), codelike.states
            for corner in corners:
                found = M.register_callback(*corner, first)
                assert found is first, (n, corner, found)
        print(n)
        assert codelike.states == bytes((1 << 3, 0)), codelike.states
    """)

    def test_no_memory(self):
        # All allocations of the first use fail from one on, each in turn.
        _, out, _ = script_helper.assert_python_ok("-c", self.NO_MEMORY)
        if CHECKS:
            self.assertGreater(int(out), 15)

    HOOK = textwrap.dedent("""
        import importlib.util
        import shutil
        import sys
        import tempfile
        import threading
        import _testcapi as layer
        import _monitoring_layer

        def load_another():
            with tempfile.TemporaryDirectory() as directory:
                name = _monitoring_layer.__name__
                spec = importlib.util.spec_from_file_location(
                    name, shutil.copy(_monitoring_layer.__file__, directory))
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module

        def produce(layer, offset, kept=False):
            codelike = kept_codelike if kept else layer.CodeLike(1)
            codelikes.append(codelike)
            layer.monitoring_enter_scope(codelike, PY_START)
            layer.fire_event_py_start(codelike, offset)
            layer.monitoring_exit_scope()

        def in_thread(*args):
            thread = threading.Thread(target=produce, args=args)
            thread.start()
            thread.join()

        def second(*args):
            pass

        def refuse():
            raise RuntimeError("refused")

        def hook(name, args):
            global depth, deepest
            if armed and name == "sys.monitoring.register_callback":
                depth += 1
                deepest = max(depth, deepest)
                try:
                    if depth <= {limit}:
                        {action}
                finally:
                    depth -= 1

        hook.__cantrace__ = {cantrace}
        M = sys.monitoring
        E = M.events
        PY_START = 0
        codelikes = []
        kept_codelike = layer.CodeLike(1)
        seen = []
        another = load_another()
        armed = False
        depth = deepest = 0
        M.use_tool_id(3, "test")
        M.register_callback(3, E.PY_START, lambda code, offset:
                            seen.append(offset) if code in codelikes else None)
        M.register_callback(5, E.C_RAISE, refuse)
        M.set_events(3, E.PY_START)
        sys.addaudithook(hook)
        armed = True
        for offset in range(3):
            try:
                produce(layer, offset)
            except RuntimeError as error:
                print(error)
                armed = False
        armed = False
        produce(another, 3)
        # Its states may have been written within the check.
        produce(layer, 4, True)
        M.set_events(3, 0)
        print(deepest, *seen)
        print(M.register_callback(5, E.C_RAISE, None).__name__)
    """)

    def run_hook(self, action, limit=100):
        """Return what is printed with a hook that does this."""
        outputs = {
            script_helper.assert_python_ok(
                "-W", "error", "-c",
                self.HOOK.format(action=action, cantrace=cantrace,
                                 limit=limit))[1]
            for cantrace in (False, True)}
        self.assertEqual(len(outputs), 1, outputs)
        return outputs.pop().decode().splitlines()

    def test_audit_hook_that_runs_a_producer(self):
        for action in "produce(layer, 9, True)", "produce(another, 9)":
            with self.subTest(action):
                self.assertEqual(self.run_hook(action),
                                 [f"{int(CHECKS)} 0 1 2 3 4", "refuse"])

    def test_audit_hook_that_waits_for_a_producer(self):
        # Another thread's; it compares, too, and has hooks.
        for action in "in_thread(layer, 9, True)", "in_thread(another, 9)":
            with self.subTest(action):
                self.assertEqual(
                    self.run_hook(action, limit=1),
                    ["2 9 0 1 2 3 4" if CHECKS else "0 0 1 2 3 4", "refuse"])

    def test_audit_hook_that_registers_a_callback(self):
        self.assertEqual(
            self.run_hook("M.register_callback(5, E.C_RAISE, second)", limit=1),
            ["2 0 1 2 3 4", "second"] if CHECKS
            else ["0 0 1 2 3 4", "refuse"])

    def test_audit_hook_that_refuses(self):
        self.assertEqual(self.run_hook("refuse()"),
                         ["refused", "1 1 2 3 4", "refuse"] if CHECKS
                         else ["0 0 1 2 3 4", "refuse"])


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
        seen = []

        def callback(code, *args, codelike=codelike, seen=seen,
                     result=M.DISABLE):
            if code is codelike:
                seen.append(args)
                # A LINE alone has one argument more.
                return result if args[1:] == () else None

        class Late:
            def __del__(self, codelike=codelike, seen=seen, layer=layer,
                        types=[event.bit_length() - 1 for event in events],
                        write=os.write):
                layer.monitoring_enter_scope(codelike, *types)
                for _ in range(2):
                    layer.fire_event_line(codelike, 0, 7)
                layer.fire_event_call(codelike, 1, "callable", "argument")
                layer.fire_event_call_return(codelike, 1, "callable",
                                             "argument", state=2)
                layer.monitoring_exit_scope()
                write(1, repr(seen).encode())

        M.use_tool_id(3, "test")
        for event in events:
            M.register_callback(3, event, callback)
        M.set_events(3, E.LINE | E.CALL)
        # It goes when sys.modules is empty.
        builtins.late = Late()
    """)

    def test_at_the_end_of_the_interpreter(self):
        _, out, err = script_helper.assert_python_ok("-c", self.SCRIPT)
        seen = [(7,), (1, "callable", "argument")]
        if C_RETURNS:
            seen.append((1, "callable", "argument"))
        self.assertEqual((out.decode(), err), (repr(seen), b""))


class TestTwoFiles(unittest.TestCase):
    """What one source file disables and another fires."""

    def test_disabled(self):
        def callback(seen_code, line):
            if seen_code is code:
                seen.append(line)
                return M.DISABLE

        code = Code()
        seen = []
        M.use_tool_id(TOOL, "test")
        self.addCleanup(M.free_tool_id, TOOL)
        M.register_callback(TOOL, E.LINE, callback)
        self.addCleanup(M.register_callback, TOOL, E.LINE, None)
        M.set_events(TOOL, E.LINE)
        self.addCleanup(M.set_events, TOOL, 0)
        layer.one_state_each(code, lambda: None)
        self.assertEqual(seen, [1, 2])
        layer.fire_elsewhere(code)
        self.assertEqual(seen, [1, 2])


@unittest.skipUnless(C_RETURNS, "C_RETURN is not sent")
class TestCallbacksOfReturns(unittest.TestCase):
    """The header may have to take a callback away to see it."""

    SCRIPT = textwrap.dedent("""
        import sys
        import _testcapi as layer

        def first(code, *args):
            if code is codelike:
                seen.append(args)

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
        C_RETURN = E.C_RETURN.bit_length() - 1
        codelike = layer.CodeLike(1)
        M.use_tool_id(3, "test")
        M.register_callback(3, E.C_RETURN, first)
        M.set_events(3, E.CALL)
        layer.monitoring_enter_scope(codelike, C_RETURN)
        armed = asked = 0
        seen = []
        sys.addaudithook(hook)
        armed = 1
        try:
            layer.fire_event_call_return(codelike, 0, len, "argument")
        except RuntimeError as error:
            print(error)
        armed = 0
        M.set_events(3, 0)
        for args in seen:
            print(*args)
        print(M.register_callback(3, E.C_RETURN, None).__name__)
    """)

    ASKS = layer.HEADER_ADDS and sys.version_info >= (3, 13)
    SEEN = ["0 <built-in function len> argument"]

    def run_script(self, action, at):
        script = self.SCRIPT.replace("{action}", action).replace("AT", str(at))
        return script_helper.assert_python_ok(
            "-c", script)[1].decode().splitlines()

    def test_stays(self):
        self.assertEqual(self.run_script("pass", 1), [*self.SEEN, "first"])

    def test_another_is_registered_meanwhile(self):
        # A hook runs before the callback is taken away, and again before it
        # is put back.
        action = "M.register_callback(3, E.C_RETURN, second)"
        for at, seen in ((1, []), (2, self.SEEN)):
            with self.subTest(at):
                self.assertEqual(self.run_script(action, at),
                                 [*seen, "second"] if self.ASKS
                                 else [*self.SEEN, "first"])

    def test_refused(self):
        self.assertEqual(self.run_script("raise RuntimeError('refused')", 1),
                         ["refused", "first"] if self.ASKS
                         else [*self.SEEN, "first"])

    def test_hook_that_runs_a_producer(self):
        # As in a callback: it does nothing.
        self.assertEqual(
            self.run_script("layer.fire_event_call_return(codelike, 1, len, 2)",
                            1), [*self.SEEN, "first"])


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

        def callback(seen_code, line):
            if seen_code is code:
                seen.append(line)
                return M.DISABLE

        M = sys.monitoring
        LINE = M.events.LINE
        M.use_tool_id(3, "test")
        M.register_callback(3, LINE, callback)
        for _ in range(20):
            code = Code()
            seen = []
            M.set_events(3, LINE)
            for _ in range(5):
                layer.one_state_each(code, lambda: None)
            M.set_events(3, 0)
            assert seen == [1, 2], seen
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
        self.seen = threading.local()

    def listen(self, tool, result):
        def callback(code, line):
            if isinstance(code, (Code, layer.WeakCodeLike)):
                if result is None:
                    self.seen.lines.append(line)
                return result

        M.register_callback(tool, E.LINE, callback)
        M.set_events(tool, E.LINE)

    def test_states(self):
        def function():
            self.seen.lines = []
            for i in range(300):
                layer.monitoring_enter_scope(shared[i], LINE)
                layer.fire_event_line(shared[i], 0, i)
                layer.monitoring_exit_scope()
                # Another tool comes and goes.
                M.set_events(RESTLESS, E.JUMP if i % 2 else 0)
            self.assertEqual(self.seen.lines, [*range(300)])

        LINE = E.LINE.bit_length() - 1
        shared = [layer.WeakCodeLike(1) for _ in range(300)]
        self.listen(LISTENER, None)
        run_threads(self, function)

    def test_disabled(self):
        def function():
            self.seen.lines = []
            for i in range(300):
                layer.one_state_each(shared[i % 3], lambda: None)
                # It dies with what was disabled for it.
                layer.one_state_each(Code(), lambda: None)
                if i % 10 == 0:
                    M.restart_events()
                    M.set_events(RESTLESS, E.JUMP if i % 20 else 0)
            self.assertEqual(self.seen.lines, [1, 2] * 600)

        shared = [Code(), Code(), Code()]
        self.listen(LISTENER, None)
        self.listen(DISABLER, M.DISABLE)
        run_threads(self, function)


if __name__ == "__main__":
    unittest.main()
