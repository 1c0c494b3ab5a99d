"""Threads that share the states, code-likes and tools of monitoring events.

ThreadSanitizer finds data races with it.  Without that, and where there is a
GIL, it still checks what threads are promised.
"""

import collections
import random
import sys
import textwrap
import threading
import time
import types
import unittest
from test import support
from test.support import import_helper, script_helper, threading_helper

_testcapi = import_helper.import_module("_testcapi")

threading_helper.requires_working_threading(module=True)

monitoring = sys.monitoring
E = monitoring.events
DISABLE = monitoring.DISABLE

# Event ids.
(PY_RESUME, PY_YIELD, CALL, LINE, RAISE, PY_UNWIND, C_RETURN) = (
    getattr(E, name).bit_length() - 1 for name in (
        "PY_RESUME", "PY_YIELD", "CALL", "LINE", "RAISE", "PY_UNWIND",
        "C_RETURN"))

# The tools, in the order in which they are called: one whose global and local
# events stay as they are; one that disables each location at once; one with
# local events alone; and one of which everything changes all the time.
STEADY, ONCE, LOCAL, RESTLESS = TOOLS = 5, 4, 3, 2

STEADY_EVENTS = E.PY_RESUME | E.PY_YIELD | E.CALL | E.RAISE | E.PY_UNWIND
STEADY_CALLBACKS = STEADY_EVENTS | E.LINE | E.C_RETURN
RESTLESS_EVENTS = STEADY_EVENTS | E.LINE

NUM_WORKERS = 4
NUM_SHARED = 3
SECONDS = 2
LINES = (101, 102, 103)


def bits(event_set):
    """The single events of a set."""
    return [1 << i for i in range(event_set.bit_length())
            if event_set >> i & 1]


class Plain:
    """A code-like of Python."""

    co_name = "plain"
    co_filename = "<plain>"
    co_firstlineno = 1


def make_producer(codelike, *, fresh):
    """A function whose states are the threads' own only if fresh is true."""
    lines = tuple((LINE, line, line) for line in LINES)
    return _testcapi.Producer(
        codelike, (PY_RESUME, LINE, CALL, C_RETURN, PY_YIELD),
        ((PY_RESUME, 0), *lines, (CALL, 1, len, "x"),
         (C_RETURN, 1, len, "x"), None, *lines, (PY_YIELD, 2, None)),
        fresh=fresh)


class Worker(threading.Thread):
    """A thread that fires, and checks what its own events' callbacks got."""

    def __init__(self, test):
        super().__init__()
        self.test = test
        self.rounds = 0
        self.seen = collections.Counter()   # of STEADY: (code-like, event)
        self.lines = []                     # of LOCAL, for one code-like
        self.once = set()                   # of ONCE: all but its own
        self.own_lines = set()              # of ONCE, for its own code-like
        self.returned = []                  # of STEADY: C_RETURN's arguments
        self.mine = None
        self.error = None

    def run(self):
        self.test.current.worker = self
        try:
            while not self.test.finished and not self.test.failed():
                self.seen.clear()
                self.fire_shared()
                self.fire_codelike()
                self.fire_own()
                self.rounds += 1
        except BaseException as exc:
            self.error = exc

    def fire_shared(self):
        test = self.test
        # States that no thread has entered with.
        i = self.rounds % NUM_SHARED
        test.producers[i] = make_producer(test.shared[i], fresh=False)
        for producer in test.producers:
            producer()
        for codelike in test.shared:
            for event in (E.PY_RESUME, E.PY_YIELD, E.CALL, E.C_RETURN):
                test.assertEqual(self.seen[codelike, event], 1)
            lines = 2 * len(LINES) if codelike is test.shared[0] else 0
            test.assertEqual(self.seen[codelike, E.LINE], lines)

    def fire_codelike(self):
        """Fire with a thread's own objects, and with errors of callbacks."""
        test = self.test

        def own():
            pass

        self.returned.clear()
        for codelike in test.codelikes:
            _testcapi.monitoring_enter_scope(
                codelike, CALL, C_RETURN, RAISE, PY_UNWIND, LINE)
            _testcapi.fire_event_line(codelike, 4, 1)
            # An error of RESTLESS, which is called last.
            try:
                _testcapi.fire_event_call(codelike, 0, print, own)
                _testcapi.fire_event_call_return(codelike, 1, print, own)
                _testcapi.fire_event_raise(codelike, 2, KeyError())
            except ValueError:
                pass
            try:
                _testcapi.fire_event_py_unwind(codelike, 3, KeyError())
            except ZeroDivisionError as exc:
                test.assertIs(type(exc.__context__), KeyError)
            _testcapi.monitoring_exit_scope()
            for event in (E.CALL, E.C_RETURN, E.RAISE, E.PY_UNWIND):
                test.assertEqual(self.seen[codelike, event], 1)
        test.assertEqual(self.returned, [(1, print, own)] * 2)

    def fire_own(self):
        """Fire for a code-like that dies with what tools chose for it."""
        test = self.test
        self.mine = Plain()
        self.lines.clear()
        self.own_lines.clear()
        monitoring.set_local_events(LOCAL, self.mine, E.LINE)
        producer = make_producer(self.mine, fresh=True)
        producer()
        test.assertEqual(self.lines, [*LINES, *LINES])
        # Its address may have been that of one with disabled lines.
        test.assertEqual({line for _, line in self.own_lines}, set(LINES))
        if self.rounds % 2:
            monitoring.set_local_events(LOCAL, self.mine, 0)
            producer()
            test.assertEqual(len(self.lines), 2 * len(LINES))
        self.mine = None


class TestThreads(unittest.TestCase):

    def setUp(self):
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        support.setswitchinterval(1e-5)
        self.random = random.Random(1)
        self.current = threading.local()
        self.finished = False
        self.errors = []
        self.generation = 0
        self.silent = False
        self.probed = set()
        self.shared = [Plain() for _ in range(NUM_SHARED)]
        self.producers = [make_producer(codelike, fresh=False)
                          for codelike in self.shared]
        self.codelikes = [_testcapi.WeakCodeLike(5), _testcapi.CodeLike(5)]
        self.workers = [Worker(self) for _ in range(NUM_WORKERS)]
        for tool in TOOLS:
            monitoring.use_tool_id(tool, "test")
            self.addCleanup(self.free_tool, tool)

    def free_tool(self, tool):
        monitoring.set_events(tool, 0)
        for event in bits(STEADY_CALLBACKS):
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)

    def failed(self):
        return self.errors or any(worker.error for worker in self.workers)

    def checkpoint(self):
        """Wait until each worker has begun and ended a round.

        No callback that ran before it runs after it.
        """
        rounds = [worker.rounds for worker in self.workers]
        while not self.failed() and any(
                worker.rounds < before + 2
                for worker, before in zip(self.workers, rounds)):
            time.sleep(0.0005)

    # The callbacks.  Bytecode's events, which are those of the test itself,
    # are not looked at.

    def steady(self, event):
        def callback(codelike, *args):
            if type(codelike) is types.CodeType:
                return DISABLE if event == E.CALL else None
            worker = self.current.worker
            worker.seen[codelike, event] += 1
            if event == E.C_RETURN and codelike in self.codelikes:
                worker.returned.append(args)
        return callback

    def once(self, codelike, line):
        if type(codelike) is types.CodeType:
            return DISABLE
        worker = self.current.worker
        generation = self.generation
        if codelike is worker.mine:
            seen, location = worker.own_lines, (generation, line)
        else:
            seen, location = worker.once, (generation, codelike, line)
        # What cannot be weakly referenced is disabled until the next entering.
        if (location in seen and generation % 2 == 0
                and codelike is not self.codelikes[1]):
            self.errors.append(f"disabled, and called again: {location}")
        seen.add(location)
        return DISABLE

    def local(self, codelike, line):
        worker = self.current.worker
        if codelike is not worker.mine:
            self.errors.append(f"local events of {codelike}")
        worker.lines.append(line)

    def restless(self, event):
        chosen = self.random.random()

        def callback(codelike, *args):
            if type(codelike) is types.CodeType:
                return None
            if self.silent:
                self.errors.append("called after it was switched off")
            if event == E.PY_UNWIND and chosen < 0.5:
                raise ZeroDivisionError
            # For RAISE an error, which removes the callback.
            return DISABLE if chosen < 0.5 and event != E.PY_UNWIND else None
        return callback

    def probe(self, codelike, *args):
        if type(codelike) is not types.CodeType:
            self.probed.add(codelike)

    # The changes.

    def restart(self):
        """Restart events; the number is odd while that is going on."""
        self.generation += 1
        monitoring.restart_events()
        self.generation += 1

    def change(self):
        """Change something at random."""
        event = self.random.choice(bits(RESTLESS_EVENTS))
        codelike = self.random.choice([*self.shared, self.codelikes[0]])
        kind = self.random.randrange(10)
        if kind < 4:
            monitoring.set_events(
                RESTLESS, self.random.getrandbits(20) & RESTLESS_EVENTS)
        elif kind < 6:
            monitoring.register_callback(RESTLESS, event,
                                         self.restless(event))
        elif kind < 8:
            monitoring.set_local_events(
                RESTLESS, codelike,
                self.random.getrandbits(10) & RESTLESS_EVENTS)
        elif kind < 9:
            self.restart()
        else:
            monitoring.free_tool_id(RESTLESS)
            monitoring.use_tool_id(RESTLESS, "test")

    def silence(self):
        """Free RESTLESS and check that this ends all that it had."""
        monitoring.set_events(RESTLESS, 0)
        for codelike in (*self.shared, self.codelikes[0]):
            monitoring.set_local_events(RESTLESS, codelike, 0)
        self.checkpoint()
        self.silent = True
        self.checkpoint()
        monitoring.free_tool_id(RESTLESS)
        self.silent = False
        monitoring.use_tool_id(RESTLESS, "test")
        self.probed.clear()
        monitoring.register_callback(RESTLESS, E.PY_YIELD, self.probe)
        monitoring.set_events(RESTLESS, E.PY_YIELD)
        self.checkpoint()
        if not self.failed():
            self.assertTrue(self.probed.issuperset(self.shared))

    def test_shared(self):
        for event in bits(STEADY_CALLBACKS):
            monitoring.register_callback(STEADY, event, self.steady(event))
        monitoring.set_events(STEADY, STEADY_EVENTS)
        monitoring.set_local_events(STEADY, self.shared[0], E.LINE)
        monitoring.register_callback(ONCE, E.LINE, self.once)
        monitoring.set_events(ONCE, E.LINE)
        monitoring.register_callback(LOCAL, E.LINE, self.local)
        with threading_helper.start_threads(self.workers):
            try:
                end = time.monotonic() + SECONDS
                while time.monotonic() < end and not self.failed():
                    for _ in range(50):
                        self.change()
                        time.sleep(0.0005)
                    self.silence()
            finally:
                self.finished = True
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error
        self.assertEqual(self.errors, [])

    def enter_fresh(self, me):
        """Enter scopes whose arrays are new, each at once with the other
        thread; return what is reported to this thread, by rounds: then, and
        when nothing changes any more."""
        found = []
        for producers in self.fresh:
            values = self.current.values = []
            self.reached[me] = 0
            self.barrier.wait()
            for producer in producers:
                self.reached[me] += 1
                # With a GIL they would only wait for each other.
                while (support.Py_GIL_DISABLED and not self.errors
                       and self.reached[1 - me] < self.reached[me]):
                    pass
                producer()
            self.barrier.wait()
            last = self.current.values = []
            for producer in producers:
                producer()
            found.append((values, last))
            self.barrier.wait()
        return found

    def test_fresh_states(self):
        # Two threads enter with the same arrays, while a tool listens to what
        # they fire, or not, or starts or stops.
        def work(me):
            try:
                found.append(self.enter_fresh(me))
            except BaseException as exc:
                self.barrier.abort()
                self.errors.append(exc)

        def callback(codelike, offset, value):
            if codelike is shared:
                self.current.values.append(value)

        def switch(*events):
            for event_set in events:
                monitoring.set_events(RESTLESS, event_set)

        shared = Plain()
        # Many, so that it takes a while to write them, and that which is used
        # is the last.
        types = *(LINE,) * 255, PY_YIELD
        on = E.PY_YIELD
        changes = [(before, after) for before in (0, on) for after in (0, on)]
        changes += [(on, on)] * 2
        changes *= 4
        values = [*range(40)]
        self.fresh = [
            [_testcapi.Producer(shared, types, ((PY_YIELD, 0, value),),
                                fresh=False) for value in values]
            for _ in changes]
        self.reached = [0, 0]
        self.barrier = threading.Barrier(3)
        found = []
        monitoring.register_callback(RESTLESS, E.PY_YIELD, callback)
        threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
        with threading_helper.start_threads(threads, self.barrier.abort):
            for before, after in changes:
                switch(before)
                self.barrier.wait(support.SHORT_TIMEOUT)
                if before != after:
                    switch(after, before, after, before, after)
                self.barrier.wait(support.SHORT_TIMEOUT)
                self.barrier.wait(support.SHORT_TIMEOUT)
            for thread in threads:
                thread.join()
        self.assertEqual(self.errors, [])
        self.assertEqual(len(found), 2)
        for rounds in found:
            for (before, after), (reported, last) in zip(changes, rounds):
                self.assertEqual(last, values if after else [])
                if before == after:
                    self.assertEqual(reported, last)

    def test_first_use(self):
        # In a process of its own: what is made by the first use stays.
        script = textwrap.dedent("""
            import sys
            import threading

            NUM_THREADS = 4
            monitoring = sys.monitoring
            ready = []
            events = []

            class Code:
                co_name = co_filename = "code"
                co_firstlineno = 1

            def use():
                code = Code()
                ready.append(code)
                while len(ready) < NUM_THREADS:
                    pass
                monitoring.set_local_events(2, code, monitoring.events.LINE)
                events.append(monitoring.get_local_events(2, code))

            monitoring.use_tool_id(2, "test")
            threads = [threading.Thread(target=use)
                       for _ in range(NUM_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(*events)
        """)
        result = script_helper.assert_python_ok("-c", script)
        self.assertEqual(result.out.split(), [b"%d" % E.LINE] * 4)


if __name__ == "__main__":
    unittest.main()
