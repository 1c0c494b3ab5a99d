"""Foreign frames of threads, interpreters and processes."""

import sys
import textwrap
import threading
import traceback
import unittest
from test import support
from test.support import script_helper, threading_helper
from .monitoring_frames_support import (FrameTestCase, Template, foreign,
                                        lines_of, walk)
from .monitoring_support import (E, OTHER_TOOL, TOOL, Plain, make_producer,
                                 monitoring)


class TestElsewhere(FrameTestCase):
    """Threads, interpreters, processes and their ends."""

    @threading_helper.requires_working_threading()
    def test_threads_that_look_at_each_other(self):
        # At frames that others are running, and at their own.
        def callback(code, *args):
            if isinstance(code, Template):
                frame = sys._getframe(1)
                shared[:] = [frame]
                names = [f.f_code.co_name for f in walk(frame)]
                mine = names.count(threading.current_thread().name)
                if mine != 2 or "other" in names:
                    wrong.append(names)

        def look():
            while not done.is_set():
                for frame in shared[:]:
                    # Without a GIL it is a race of the base's to look at
                    # Python frames that others run.
                    free = support.Py_GIL_DISABLED
                    for f in [frame] if free else walk(frame):
                        f.f_lineno, f.f_lasti, f.f_code, dict(f.f_locals)
                        f.f_globals, f.f_back, repr(f)
                    traceback.extract_stack(frame, 1 if free else None)
                sys._current_frames()

        def work(name):
            inner = Template(name, 1, *lines_of(1, 2))
            outer = Template(name, 1, *lines_of(1, 2))
            variables = {"a": 1}

            def python():
                foreign(inner, ("namespaces", None, variables),
                        ("LINE", 0, 1), ("LINE", 2, 2))()

            for _ in range(100):
                # Not the outer one: whether that is known is another matter.
                foreign(outer, python)()

        shared = []
        wrong = []
        done = threading.Event()
        for name in "LINE", "PY_START":
            monitoring.register_callback(TOOL, getattr(E, name), callback)
        # One that the frames are kept for, and looked at by nobody.
        monitoring.register_callback(
            OTHER_TOOL, E.LINE, lambda code, line: sys._getframe(1))
        monitoring.set_events(OTHER_TOOL, E.LINE)
        foreign(Template("first", 1), line=3)()
        monitoring.set_events(TOOL, E.LINE)
        threads = [threading.Thread(target=work, args=(name,), name=name)
                   for name in ("first", "second")]
        looker = threading.Thread(target=look, name="looker")
        with threading_helper.start_threads([looker]):
            with threading_helper.start_threads(threads):
                pass
            done.set()
        monitoring.set_events(TOOL, 0)
        monitoring.set_events(OTHER_TOOL, 0)
        self.assertEqual(wrong, [])

    @threading_helper.requires_working_threading()
    def test_tools_that_change_in_other_threads(self):
        def work():
            for _ in range(200):
                foreign(Template("inner", 1), ("namespaces", {}, {}),
                        foreign(Plain(), line=2), line=3)()

        def change():
            while not done.is_set():
                monitoring.set_events(TOOL, E.LINE)
                monitoring.set_events(TOOL, 0)

        def callback(code, *args):
            for frame in walk(sys._getframe(1)):
                frame.f_lineno

        done = threading.Event()
        monitoring.register_callback(TOOL, E.LINE, callback)
        changer = threading.Thread(target=change)
        with threading_helper.start_threads([changer]):
            with threading_helper.start_threads(
                    [threading.Thread(target=work) for _ in range(2)]):
                pass
            done.set()

    @support.requires_fork()
    def test_fork(self):
        script = textwrap.dedent("""
            import os, sys, threading
            from test.test_capi.test_monitoring_frames_threads import *
            def fork():
                global pid
                pid = os.fork()
            def callback(code, *args):
                if code is codelike:
                    names.append([f.f_code.co_name for f in
                                  walk(sys._getframe(1))])
            def work():
                foreign(Plain(), started.set, wait.wait, line=3)()
            names = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            foreign(codelike, line=2)()
            started, wait = threading.Event(), threading.Event()
            thread = threading.Thread(target=work)
            thread.start()
            started.wait()
            names.clear()
            foreign(codelike, fork, ("LINE", 0, 4), line=3)()
            assert names == [["plain", "<module>"]] * 2, names
            M.set_events(2, 0)
            if pid == 0:
                os._exit(0)
            wait.set()
            thread.join()
            assert os.waitpid(pid, 0)[1] == 0
        """)
        script_helper.assert_python_ok("-W", "ignore", "-c", script)

    @support.skip_if_sanitizer("CPython reads what it freed when a daemon "
                               "thread goes on at the end", address=True,
                               thread=True)
    def test_end_of_the_interpreter(self):
        # With activations, tools, tracers and frames that are still there.
        script = textwrap.dedent("""
            import sys, threading
            from test.test_capi.test_monitoring_frames_threads import *
            def callback(code, *args):
                kept.append(sys._getframe(1))
            class Late:
                def __del__(self):
                    foreign(Plain(), line=3)()
                    sys._getframe().f_back
            kept = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3))()
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3),
                          ("namespaces", {"late": Late()}, {"a": Late()}))()
            codelike.late = Late()
            thread = threading.Thread(target=make_producer(
                Plain(), ("PY_START", 0), ("LINE", 0, 3),
                threading.Event().wait), daemon=True)
            thread.start()
            sys.settrace(lambda *args: None)
            sys.setprofile(lambda *args: None)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3),
                          sys.exit)()
        """)
        script_helper.assert_python_ok("-c", script)

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_subinterpreters(self):
        script = textwrap.dedent("""
            import sys
            from test.test_capi.test_monitoring_frames_threads import *
            def callback(code, *args):
                if code is codelike:
                    kept.append(sys._getframe(1))
                    names.append([f.f_code.co_name for f in walk(kept[-1])])
            names = []
            kept = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            foreign(codelike, ("LINE", 0, 4), line=3)()
            assert names == [["plain", "<module>"]] * 2, names
            assert kept[0] is kept[1]
            sys.settrace(lambda *args: None)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3))()
        """)

        def run():
            self.assertEqual(support.run_in_subinterp(script), 0)

        frames = []
        codelike = Plain()
        self.look_at([codelike], frames.append, "LINE")
        # That of an outer interpreter is none of an inner one.
        foreign(codelike, run, ("LINE", 0, 4), line=3)()
        self.assertEqual(len(frames), 2)
        self.assertIs(*frames)
        self.assertEqual(frames[0].f_lineno, 4)


if __name__ == "__main__":
    unittest.main()
