"""Leaks, and allocations that fail."""

import operator
import sys
import textwrap
import unittest
from test.support import import_helper, script_helper
from .monitoring_support import (CALL_NAMES, DISABLE, E, EVENT_SETS,
                                 EXCEPTION_EVENTS, IDS, MISSING, OTHER_TOOL,
                                 TOOL, TOOL_BITS, WITH_BYTECODE, Case,
                                 MonitoringTestCase, Plain, count_blocks,
                                 enter, fire, line_producer, make_cases,
                                 make_codelikes, monitoring, scope)

_testcapi = import_helper.import_module("_testcapi")


class TestMemory(MonitoringTestCase):

    def test_no_event_leaks(self):
        def run(case, number):
            for _ in range(number):
                fire(case, self.codelike, offset)

        offset = 100_000
        value = Case("STOP_ITERATION", "stop_iteration", (7,), None)
        for case in [*make_cases(offset), value]:
            with self.subTest(case.fire):
                # What a callback returns must not leak either.
                monitoring.register_callback(TOOL, getattr(E, case.name),
                                             lambda *args: object())
                monitoring.set_events(TOOL, EVENT_SETS[case.name])
                with scope(self.codelike, case.name):
                    # As many as are counted: free lists fill up.  Without a
                    # GIL, memory is also freed later; a leak is there always.
                    blocks = []
                    for _ in range(4):
                        run(case, 500)
                        blocks.append(sys.getallocatedblocks())
                    leaked = min(map(operator.sub, blocks[1:], blocks))
                monitoring.set_events(TOOL, 0)
                self.assertLess(leaked, 100)

    def test_failures_do_not_leak(self):
        def fail(*args):
            raise ValueError

        def run(number):
            for _ in range(number):
                for offset in (-1, 1000):
                    try:
                        _testcapi.fire_event_py_throw(self.codelike, offset,
                                                      KeyError())
                    except ValueError:
                        pass

        monitoring.register_callback(TOOL, E.PY_THROW, fail)
        monitoring.set_events(TOOL, E.PY_THROW)
        enter(self.codelike, "PY_THROW")
        run(500)
        before = sys.getallocatedblocks()
        run(500)
        leaked = sys.getallocatedblocks() - before
        monitoring.set_events(TOOL, 0)
        self.assertLess(leaked, 100)

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_allocation_failures(self):
        # In a process of its own: what is not ours may not survive it.
        script = textwrap.dedent("""
            import _testcapi, sys
            M = sys.monitoring
            function_name, event_set, event, *args = sys.argv[1:]
            function = getattr(_testcapi, "fire_event_" + function_name)
            event = int(event)
            args = [int(arg) for arg in args]
            if function_name == "raise":
                args = [KeyError("pending")]
            pending = KeyError("pending")
            codelike = _testcapi.CodeLike(1)
            # Whole, and a tuple: a free-threaded build crashes where the list
            # of a call with more than *args cannot be allocated.
            args = (codelike, 1000, *args)
            calls = 0
            class Callback:
                __slots__ = ()
                def __call__(self, *args):
                    global calls
                    if args[0] is codelike:
                        calls += 1
            M.use_tool_id(2, "test")
            M.register_callback(2, 1 << event, Callback())
            M.set_events(2, int(event_set))
            _testcapi.monitoring_enter_scope(codelike, event)
            for _ in range(2):  # warm up
                function(*args, pending=pending)
            set_nomemory = _testcapi.set_nomemory
            remove_mem_hooks = _testcapi.remove_mem_hooks
            failures = 0
            for start in range(100):
                before = calls
                try:
                    set_nomemory(start, 0)
                    function(*args, pending=pending)
                except MemoryError:
                    remove_mem_hooks()
                    failures += 1
                    continue
                remove_mem_hooks()
                assert calls == before + 1
                break
            else:
                raise AssertionError("never succeeded")
            function(*args, pending=pending)
            assert calls == before + 2
            print(failures)
        """)
        for name, function, args in (
            ("LINE", "line", ("1000",)), ("PY_RESUME", "py_resume", ()),
            ("STOP_ITERATION", "stop_iteration", ("1000",)),
            ("PY_RETURN", "py_return", ("1000",)), ("RAISE", "raise", ()),
        ):
            with self.subTest(name):
                result = script_helper.assert_python_ok(
                    "-c", script, function, str(EVENT_SETS[name]),
                    str(IDS[name]), *args)
                self.assertGreater(int(result.out), 0)


# The sweeps of TestAllocationFailures, each run in processes of its own.

def sweep(attempt, check, alone):
    """Let each allocation of attempt() fail in turn, until it succeeds.

    The n-th one fails, alone or with all after it, for n = 0, 1, ...: then
    attempt() must raise MemoryError each time that it is called, and
    check(done) is called.  Return at how many allocations it failed.

    While allocations fail nothing else may allocate.  No tool may listen to
    this function's lines and calls, and attempt() must not make a list, which
    crashes in the base of the free-threaded build.
    """
    repeat = 20
    for start in range(1000):
        stop = start + 1 if alone else 0
        done = not fails(attempt, start, stop)
        check(done)
        if done:
            return start
        before = count_blocks()
        for _ in range(repeat):
            # What was cached meanwhile may make it succeed.
            if not fails(attempt, start, stop):
                check(True)
                return start
        leaked = count_blocks() - before
        if leaked >= repeat // 2:
            raise AssertionError(f"allocation {start}: {leaked} blocks leaked")
    raise AssertionError("never succeeded")


def fails(attempt, start, stop):
    # Short, so that a tool gets offsets that need no allocation.
    try:
        _testcapi.set_nomemory(start, stop)
        attempt()
    except MemoryError:
        _testcapi.remove_mem_hooks()
        return True
    _testcapi.remove_mem_hooks()
    return False


class Recorder:
    """Registers a callback; keeps what that last got for a code-like, and
    counts its calls for that which do not fail."""

    def __init__(self, codelike, event, result=None):
        self.result = result
        self.seen = None
        self.calls = 0

        # No star-arguments: these would allocate for other code too.
        def callback(code, first, second=None, third=None):
            if code is codelike:
                self.seen = first, second, third
                self.calls += 1
                return self.result

        monitoring.register_callback(TOOL, event, callback)

    def take(self):
        seen, self.seen = self.seen, None
        return seen


def sweep_fire(alone):
    codelike = _testcapi.WeakCodeLike(1)
    pending = KeyError("pending")
    for case in make_cases(1000):
        print(case.fire, file=sys.stderr)
        recorder = Recorder(codelike, getattr(E, case.name))
        if case.name in EXCEPTION_EVENTS - {"C_RAISE"}:
            monitoring.set_events(TOOL, EVENT_SETS[case.name])
        else:
            monitoring.set_local_events(TOOL, codelike, EVENT_SETS[case.name])
        if case.name == "STOP_ITERATION":
            case = case._replace(args=("value",))
        function = getattr(_testcapi, "fire_event_" + case.fire)
        args = (codelike, 1000, *case.args)

        def attempt():
            function(*args, pending=pending)

        def check(done):
            if not done:
                recorder.take()
                attempt()
            seen = [arg for arg in recorder.take() if arg is not None]
            if case.name == "STOP_ITERATION":
                seen[1] = seen[1].value
                assert seen == [1000, "value"], seen
            else:
                assert seen == [*case.reported], seen

        with scope(codelike, case.name):
            # What is cached at the first calls.
            attempt()
            attempt()
            assert sweep(attempt, check, alone) > 1
        monitoring.set_events(TOOL, 0)
        monitoring.set_local_events(TOOL, codelike, 0)
        monitoring.register_callback(TOOL, getattr(E, case.name), None)


def sweep_vectorcall(alone):
    # There is no call where its CALL cannot be reported.
    codelike = _testcapi.WeakCodeLike(3)
    started = Recorder(codelike, E.CALL)
    returned = Recorder(codelike, E.C_RETURN)
    monitoring.set_local_events(TOOL, codelike, E.CALL)
    order = bytearray(2)
    reverse = order.reverse

    def attempt():
        # What was seen before stays, so that each event needs an int.
        started.calls = returned.calls = 0
        order[0] = 0
        order[1] = 1
        _testcapi.monitoring_vectorcall(codelike, 1000, reverse)

    def check(done):
        was_called = order == b"\1\0"
        assert (started.calls, returned.calls) == (was_called, done)
        assert started.seen == returned.seen == (1000, reverse, MISSING)
        ends.append((was_called, done))

    ends = []
    with scope(codelike, *CALL_NAMES):
        attempt()
        attempt()
        sweep(attempt, check, alone)
    assert {*ends} == {(False, False), (True, False), (True, True)}, ends


def sweep_enter_scope(alone):
    # It needs no memory.
    names = "PY_YIELD", "C_RETURN", "PY_START"
    codelike = _testcapi.CodeLike(len(names))
    monitoring.set_events(TOOL, E.PY_YIELD | E.CALL)
    args = codelike, *(IDS[name] for name in names)

    def attempt():
        _testcapi.monitoring_enter_scope(*args)

    def check(done):
        assert done
        states = codelike.states
        active = [active & TOOL_BITS for active in states[::2]]
        assert active == [1 << TOOL] * 2 + [0], states
        assert not any(states[1::2]), states

    # What is cached at the first calls.
    attempt()
    attempt()
    codelike.states = b"\xff\xee" * len(names)
    codelike.version = 0
    sweep(attempt, check, alone)


def sweep_set_local_events(alone):
    for kind, codelike in make_codelikes().items():
        for known in (False, True):
            print(kind, known, file=sys.stderr)
            if known:
                monitoring.set_local_events(OTHER_TOOL, codelike, E.JUMP)
            recorder = Recorder(codelike, E.LINE)
            producer = line_producer(codelike, (7,))

            def check(events):
                assert monitoring.get_local_events(TOOL, codelike) == events
                assert (monitoring.get_local_events(OTHER_TOOL, codelike)
                        == (E.JUMP if known else 0))
                producer()
                assert recorder.take() == ((7, None, None) if events else None)

            def switch(old, new):
                def check_switch(done):
                    # The base may leave what it does to bytecode half done.
                    if done or kind not in WITH_BYTECODE:
                        check(new if done else old)

                return sweep(lambda: monitoring.set_local_events(
                    TOOL, codelike, new), check_switch, alone)

            failed = switch(0, E.LINE)
            assert known or failed > 0
            switch(E.LINE, 0)


def sweep_disable(alone):
    # As many code-likes and locations as make both tables grow.
    codelikes = [Plain() for _ in range(12)]
    # Nothing but the producers fires it.
    monitoring.set_events(TOOL, E.PY_RESUME)
    failed = 0
    for codelike in codelikes:
        recorder = Recorder(codelike, E.PY_RESUME)
        producers = [
            _testcapi.Producer(codelike, (IDS["PY_RESUME"],),
                               ((IDS["PY_RESUME"], offset),))
            for offset in range(8)
        ]

        def check(done):
            recorder.result = None
            recorder.take()
            disabled = offset + 1 if done else offset
            for other, producer in enumerate(producers):
                producer()
                expected = None if other < disabled else (other, None, None)
                assert recorder.take() == expected, (done, offset, other)
            recorder.result = DISABLE

        recorder.result = DISABLE
        for offset, producer in enumerate(producers):
            failed += sweep(producer, check, alone)
    assert failed > len(codelikes), failed


@unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                     "needs _testcapi.set_nomemory")
class TestAllocationFailures(unittest.TestCase):

    def run_sweep(self, function):
        script = textwrap.dedent(f"""
            import gc, importlib, sys
            tests = importlib.import_module({__spec__.name!r})
            for tool in (tests.TOOL, tests.OTHER_TOOL):
                sys.monitoring.use_tool_id(tool, "test")
            # What is there now need not be looked at in each collection.
            gc.freeze()
            tests.{function.__name__}(alone=eval(sys.argv[1]))
        """)
        # In processes of their own: what is not ours may not survive it.
        for alone in (False, True):
            with self.subTest(alone=alone):
                script_helper.assert_python_ok("-c", script, str(alone))

    def test_fire(self):
        self.run_sweep(sweep_fire)

    def test_vectorcall(self):
        self.run_sweep(sweep_vectorcall)

    def test_enter_scope(self):
        self.run_sweep(sweep_enter_scope)

    def test_set_local_events(self):
        self.run_sweep(sweep_set_local_events)

    def test_disable(self):
        self.run_sweep(sweep_disable)


# What the tests of legacy tools run and trace.


if __name__ == "__main__":
    unittest.main()
