"""PyCode_NewWithLocations(), against all that reads locations of code."""

import copy
import dis
import gc
import inspect
import itertools
import linecache
import marshal
import operator
import os
import pickle
import random
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import traceback
import types
import unittest
import weakref
from test.support import import_helper, os_helper, script_helper

_testcapi = import_helper.import_module("_testcapi")

INT_MAX = 2**31 - 1
UNKNOWN = (-1, -1, -1, -1)
NOWHERE = (None, None, None, None)


def make(locations, filename="program.bas", name="MAIN", qualname=None,
         firstlineno=1, *count):
    return _testcapi.code_newwithlocations(filename, name, qualname,
                                           firstlineno, locations, *count)


def shown(location):
    """What co_positions() has for a location."""
    lineno, end_lineno, *columns = location
    if end_lineno < 0:
        end_lineno = lineno
    return tuple(None if number < 0 else number
                 for number in (lineno, end_lineno, *columns))


def all_shown(locations):
    """What it has for an array of them: with none, RESUME has no location."""
    return [*map(shown, locations)] + [NOWHERE] * (2 if locations else 3)


def line_ranges(positions):
    """What co_lines() has for these positions."""
    ranges = []
    for lineno, group in itertools.groupby(enumerate(positions),
                                           lambda item: item[1][0]):
        indexes = [index for index, _ in group]
        ranges.append((2 * indexes[0], 2 * indexes[-1] + 2, lineno))
    return ranges


def random_column(rng):
    return rng.randrange(rng.choice((8, 80, 128, 256, 300, 10**6, INT_MAX)))


def random_locations(rng, number):
    """Of each form that the table has, and next to each other."""
    lineno = 1
    location = UNKNOWN
    locations = []
    while len(locations) < number:
        if rng.random() < 0.2:
            # Of these, entries have 8 at most.
            locations += [location] * rng.randrange(1, 20)
            continue
        step = rng.choice((0, 0, 0, 1, 2, 3, rng.randrange(-5, 50),
                           rng.randrange(-INT_MAX, INT_MAX)))
        if 1 <= lineno + step <= INT_MAX:
            lineno += step
        lines = rng.choice((0, 0, 0, 1, 100, rng.randrange(INT_MAX)))
        end_lineno = min(lineno + lines, INT_MAX)
        col_offset, end_col_offset = random_column(rng), random_column(rng)
        if end_col_offset < col_offset and rng.random() < 0.9:
            end_col_offset = min(col_offset + rng.randrange(20), INT_MAX)
        kind = rng.randrange(12)
        if kind == 0:
            location = UNKNOWN
        elif kind == 1:
            location = lineno, -1, -1, -1
        elif kind == 2:
            location = lineno, end_lineno, -1, -1
        elif kind == 3:
            location = lineno, end_lineno, col_offset, -1
        elif kind == 4:
            location = lineno, end_lineno, -1, end_col_offset
        elif kind == 5:
            location = (lineno, -1, col_offset,
                        max(col_offset, end_col_offset))
        elif end_lineno == lineno and end_col_offset < col_offset:
            location = lineno, lineno, end_col_offset, col_offset
        else:
            location = lineno, end_lineno, col_offset, end_col_offset
        locations.append(location)
    return locations[:number]


class TestLocations(unittest.TestCase):

    def check(self, locations, firstlineno=1, rng=random.Random(0)):
        code = make(locations, firstlineno=firstlineno)
        positions = all_shown(locations)
        self.assertEqual(list(code.co_positions()), positions)
        self.assertEqual(list(code.co_lines()), line_ranges(positions))
        self.assertEqual(len(code.co_code), 2 * len(positions))
        last = len(positions) - 1
        indexes = {0, 1, last - 2, last - 1, last,
                   *(rng.randrange(last) for _ in range(50))}
        for i in indexes:
            offset = _testcapi.code_location_offset(i)
            self.assertEqual(offset, 2 * i)
            numbers = tuple(-1 if number is None else number
                            for number in positions[i])
            self.assertEqual(_testcapi.code_addr2line(code, offset),
                             numbers[0])
            self.assertEqual(_testcapi.code_addr2location(code, offset),
                             numbers)
            self.assertEqual(sys.monitoring.get_location(code, offset),
                             ("program.bas", *positions[i]))
        again = marshal.loads(marshal.dumps(code))
        self.assertEqual(again, code)
        self.assertEqual(again.co_linetable, code.co_linetable)
        self.assertEqual(list(again.co_positions()), positions)
        return code, positions

    def check_dis(self, code, positions):
        seen = [(instruction.offset, tuple(instruction.positions))
                for instruction in dis.get_instructions(code)]
        self.assertEqual(seen, [(2 * i, position)
                                for i, position in enumerate(positions)])

    def test_random(self):
        for seed in range(300):
            rng = random.Random(seed)
            locations = random_locations(rng, rng.randrange(40))
            firstlineno = rng.choice((0, 1, 7, INT_MAX))
            with self.subTest(seed=seed, locations=locations):
                self.check_dis(*self.check(locations, firstlineno, rng))

    def test_random_long(self):
        for number in (1_000, 10_000, 100_000):
            with self.subTest(number=number):
                rng = random.Random(number)
                code, positions = self.check(random_locations(rng, number))
                if number <= 10_000:
                    self.check_dis(code, positions)

    def test_limits_of_forms(self):
        columns = (0, 1, 7, 8, 15, 16, 78, 79, 80, 95, 126, 127, 128, 129,
                   255, 256, 63, 64, 4095, 4096, INT_MAX - 1, INT_MAX)
        locations = [
            (lineno, end_lineno, column, end_column)
            for lineno, end_lineno in ((5, 5), (6, 6), (8, 8), (11, 11),
                                       (10, 10), (1, INT_MAX))
            for column in columns for end_column in columns
            if column <= end_column or end_lineno > lineno
        ]
        self.check_dis(*self.check(locations))

    def test_repeated(self):
        # Each number of equal ones, next to other and to unknown ones.
        locations = []
        for number in range(1, 20):
            locations += [(number, number, 1, 2)] * number
            locations += [UNKNOWN] * number
        self.check_dis(*self.check(locations))

    def test_far_lines(self):
        lines = 1, INT_MAX, 1, INT_MAX - 1, 2, INT_MAX
        for firstlineno in (0, 1, INT_MAX):
            self.check([(line, line, 0, 1) for line in lines], firstlineno)
            self.check([(line, -1, -1, -1) for line in lines], firstlineno)

    def test_no_locations(self):
        for code in (make([]), make(None, "program.bas", "MAIN", None, 1, 0)):
            self.assertEqual(list(code.co_positions()), [NOWHERE] * 3)
            self.assertEqual(list(code.co_lines()), [(0, 6, None)])

    def test_part_of_an_array(self):
        for locations in ([(1, 1, 0, 1), (2, 2, 0, 1), (3, 3, 0, 1)],
                          [(1, 1, 0, 1)] * 20):
            for number in range(len(locations)):
                code = make(locations, "program.bas", "MAIN", None, 1, number)
                self.assertEqual(list(code.co_positions()),
                                 all_shown(locations[:number]))

    def test_million(self):
        # As a parser has them: one after the other, and not long.
        number = 1_000_000
        locations = [(1 + i // 10, 1 + i // 10, i % 10 * 7, i % 10 * 7 + 6)
                     for i in range(number)]
        gc.collect()
        code = make(locations)
        for i in (0, 1, number // 2, number - 1):
            position = shown(locations[i])
            self.assertEqual(_testcapi.code_addr2location(code, 2 * i),
                             position)
            self.assertEqual(sys.monitoring.get_location(code, 2 * i),
                             ("program.bas", *position))
        sizes = [sys.getsizeof(one) + sys.getsizeof(one.co_linetable)
                 for one in (code, make([]))]
        self.assertLessEqual((sizes[0] - sizes[1]) / number, 5)
        last = 2 * number
        self.assertEqual(sys.monitoring.get_location(code, last + 2),
                         ("program.bas", *NOWHERE))
        self.assertRaises(ValueError, sys.monitoring.get_location, code,
                          last + 4)
        self.assertEqual(sum(1 for _ in code.co_lines()), number // 10 + 1)

    def test_debug_ranges(self):
        # Without them, code has no columns, as that of compile().
        script = textwrap.dedent("""
            import _testcapi
            code = _testcapi.code_newwithlocations(
                "x", "x", None, 1, [(3, 3, 4, 5), (2, 9, 0, 500)])
            print(list(code.co_positions()))
        """)
        done = script_helper.assert_python_ok("-X", "no_debug_ranges",
                                              "-c", script)
        self.assertEqual(
            eval(done.out),
            [(3, 3, None, None), (2, 2, None, None), NOWHERE, NOWHERE])


class TestCode(unittest.TestCase):
    """It is a code object like any other."""

    LOCATIONS = [(3, 3, 0, 5), (3, 4, 2, 9), (7, 7, 1, 3)]

    def test_attributes(self):
        code = make(self.LOCATIONS, "a.bas", "SUB", "MAIN.SUB", 17)
        self.assertIs(type(code), types.CodeType)
        self.assertEqual(
            (code.co_filename, code.co_name, code.co_qualname,
             code.co_firstlineno), ("a.bas", "SUB", "MAIN.SUB", 17))
        self.assertEqual(make([]).co_qualname, "MAIN")
        self.assertEqual(make([], firstlineno=0).co_firstlineno, 0)
        self.assertEqual(code.co_flags, 0)
        for name in ("consts", "names", "varnames", "freevars", "cellvars"):
            self.assertEqual(getattr(code, "co_" + name), ())

    def test_odd_names(self):
        for text in ("", "\udcff\ud800", "Ж\0日本", "x" * 100_000):
            code = make([], text, text, text)
            self.assertEqual((code.co_filename, code.co_name,
                              code.co_qualname), (text,) * 3)
            location = sys.monitoring.get_location(code, 0)
            self.assertEqual(location.filename, text)

    def test_copies(self):
        code = make(self.LOCATIONS)
        self.assertEqual(code, make(self.LOCATIONS))
        self.assertEqual(hash(code), hash(make(self.LOCATIONS)))
        self.assertNotEqual(code, make(self.LOCATIONS[:2]))
        self.assertNotEqual(code, make(self.LOCATIONS[::-1]))
        self.assertNotEqual(make(self.LOCATIONS[:1]), make([]))
        self.assertIs(copy.copy(code), code)
        self.assertIs(copy.deepcopy(code), code)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.assertRaises(TypeError, pickle.dumps, code, protocol)
        other = code.replace(co_name="OTHER", co_filename="other.bas")
        self.assertEqual(list(other.co_positions()),
                         list(code.co_positions()))
        self.assertEqual(other.co_name, "OTHER")

    def test_dies(self):
        code = make(self.LOCATIONS)
        reference = weakref.ref(code)
        self.assertIs(reference(), code)
        del code
        gc.collect()
        self.assertIsNone(reference())

    def test_inspect(self):
        code = make(self.LOCATIONS)
        self.assertTrue(inspect.iscode(code))
        function = types.FunctionType(code, {})
        self.assertEqual(str(inspect.signature(function)), "()")
        for test in (inspect.isgeneratorfunction, inspect.iscoroutinefunction,
                     inspect.isasyncgenfunction):
            self.assertFalse(test(function))

    def run_harmlessly(self, code):
        """Run it in each way that there is; return the last traceback."""
        for run in (lambda: exec(code), lambda: eval(code),
                    types.FunctionType(code, {})):
            tb = self.traceback_of(run)
            self.assertIs(tb.tb_frame.f_code, code)
        return tb

    def traceback_of(self, run):
        """Run what raises; return the last entry of the traceback."""
        try:
            run()
        except AssertionError as exc:
            self.assertEqual(exc.args, ())
            tb = exc.__traceback__
        while tb.tb_next is not None:
            tb = tb.tb_next
        return tb

    def test_running(self):
        for number in (0, 1, 2, 3, 1000):
            with self.subTest(number=number):
                locations = [(1 + i, 1 + i, 0, 1) for i in range(number)]
                code = make(locations)
                for _ in range(3):
                    tb = self.run_harmlessly(code)
                # It raises where there is no location.
                self.assertGreaterEqual(tb.tb_lasti, 2 * number)
                self.assertIsNone(tb.tb_lineno)
                self.assertIn('File "program.bas"',
                              "".join(traceback.format_tb(tb)))
                self.assertRaises(TypeError, types.FunctionType(code, {}), 1)

    def test_running_while_watched(self):
        # With every instruction replaced by what calls a tool.
        lines = [5, 6, 6, 9, 2, 3]
        code = make([(line, line, 0, 1) for line in lines])
        seen = []
        self.watch(code, seen)
        self.run_harmlessly(code)
        sys.monitoring.set_local_events(2, code, 0)
        visited = [offset for kind, offset in seen if kind == "INSTRUCTION"]
        # RESUME is where the call is.
        self.assertEqual(visited[:7], list(range(2, 16, 2)))
        self.assertEqual(
            [line for kind, line in seen if kind == "LINE"][:4], [6, 9, 2, 3])
        self.assertEqual(list(code.co_positions()),
                         all_shown([(line, line, 0, 1) for line in lines]))
        self.assertEqual(marshal.loads(marshal.dumps(code)), code)
        seen.clear()
        self.run_harmlessly(code)
        self.assertEqual(seen, [])

    def test_lines_before_the_first(self):
        # The lines that LINE is for are kept as differences from the first.
        code = make([(line, line, 0, 1) for line in (300, 301, 1, 298, 302)],
                    firstlineno=300)
        seen = []
        self.watch(code, seen)
        self.run_harmlessly(code)
        sys.monitoring.set_local_events(2, code, 0)
        self.assertEqual([line for kind, line in seen if kind == "LINE"][:2],
                         [301, 302])
        self.assertEqual([position[0] for position in code.co_positions()][:5],
                         [300, 301, 1, 298, 302])

    def watch(self, code, seen):
        monitoring = sys.monitoring
        monitoring.use_tool_id(2, "test")
        self.addCleanup(monitoring.free_tool_id, 2)
        events = 0
        for name in ("LINE", "INSTRUCTION", "PY_START"):
            event = getattr(monitoring.events, name)
            events |= event
            monitoring.register_callback(
                2, event, lambda code, number, name=name:
                seen.append((name, number)))
            self.addCleanup(monitoring.register_callback, 2, event, None)
        monitoring.set_local_events(2, code, events)

    def test_running_while_traced(self):
        code = make([(4, 4, 0, 1), (5, 5, 0, 1)])
        seen = []

        def trace(frame, event, arg):
            if frame.f_code is code:
                seen.append((event, frame.f_lineno))
            return trace

        old = sys.gettrace()
        sys.settrace(trace)
        try:
            self.assertRaises(AssertionError, exec, code)
        finally:
            sys.settrace(old)
        self.assertEqual(seen, [("call", 4), ("line", 5), ("exception", None),
                                ("return", None)])

    def make_traceback(self, code, index):
        tb = self.traceback_of(lambda: exec(code))
        location = shown(self.locations[index])
        return types.TracebackType(None, tb.tb_frame, 2 * index, location[0])

    def test_traceback(self):
        source = ("10 LET A = 1\n20 PRINT A / 0\n30 Ж = Б + 1\n"
                  "40 IF A THEN _\n   STOP\n")
        filename = os.path.join(self.enterContext(os_helper.temp_dir()),
                                "program.bas")
        with open(filename, "w", encoding="utf-8") as file:
            file.write(source)
        self.addCleanup(linecache.clearcache)
        # Columns are in bytes: each of these letters has two.
        self.locations = [(2, 2, 9, 14), (3, 3, 8, 14), (1, -1, -1, -1),
                          (4, 5, 3, 7)]
        code = make(self.locations, filename)
        head = f'  File "{filename}", line '
        expected = [
            head + "2, in MAIN\n    20 PRINT A / 0\n             ~~^~~\n",
            head + "3, in MAIN\n    30 Ж = Б + 1\n           ~~^~~\n",
            head + "1, in MAIN\n    10 LET A = 1\n",
            head + "4, in MAIN\n    40 IF A THEN _\n       ^^^^^^^^^^^\n"
                   "       STOP\n       ^^^^\n",
        ]
        for i, text in enumerate(expected):
            tb = self.make_traceback(code, i)
            self.assertEqual(traceback.format_tb(tb), [text])
            info = inspect.getframeinfo(tb)
            self.assertEqual(tuple(info.positions), shown(self.locations[i]))


class TestHeader(unittest.TestCase):
    """What the header declares, as extensions compile it."""

    SOURCE = textwrap.dedent("""\
        #include "Python.h"

        static const PyCodeLocation locations[] = {{1, 1, 0, 5}};
        enum { OFFSET = PyCode_LOCATION_OFFSET(1 + 1) };
        PyObject *make(PyObject *name);

        PyObject *
        make(PyObject *name)
        {
            Py_ssize_t n = sizeof(locations) / sizeof(locations[0]);
            if (PyCode_LOCATION_OFFSET(n | 2) != OFFSET + 2 * (n & 1)) {
                return NULL;
            }
            return PyCode_NewWithLocations(name, name, NULL, 1, locations, n);
        }
        """)

    def compile(self, standard, *flags):
        language = "c++" if "++" in standard else "c"
        command = sysconfig.get_config_var("CXX" if "++" in standard else "CC")
        try:
            return subprocess.run(
                [*shlex.split(command or "")[:1], "-std=" + standard,
                 "-fsyntax-only", "-x", language, *flags,
                 "-I" + sysconfig.get_path("include"),
                 "-I" + os.path.dirname(sysconfig.get_config_h_filename()),
                 "-"],
                input=self.SOURCE if flags else '#include "Python.h"\n',
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError:
            return None

    def test_standards(self):
        for standard in ("c99", "c11", "c17", "c2x",
                         "c++11", "c++14", "c++17", "c++20"):
            with self.subTest(standard=standard):
                alone = self.compile(standard)
                if alone is None or alone.returncode:
                    self.skipTest(f"Python.h does not compile as {standard}")
                done = self.compile(standard, "-Wall", "-Wextra", "-pedantic")
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertNotIn("<stdin>", done.stdout)


class TestErrors(unittest.TestCase):

    def fails(self, error, message, *args, **kwargs):
        with self.assertRaisesRegex(error, message):
            make(*args, **kwargs)

    BAD_LOCATIONS = {
        (0, 1, 0, 0): "lineno must be positive",
        (-2, -1, -1, -1): "lineno must be positive",
        (-INT_MAX - 1, -1, -1, -1): "lineno must be positive",
        (1, 0, -1, -1): "end_lineno must be positive",
        (1, -2, -1, -1): "end_lineno must be positive",
        (1, 1, -2, 1): "must not be negative",
        (1, 1, 1, -2): "must not be negative",
        (1, 2, 1, -INT_MAX - 1): "must not be negative",
        (-1, 1, -1, -1): "without lineno, all must be -1",
        (-1, -1, 0, -1): "without lineno, all must be -1",
        (-1, -1, -1, 0): "without lineno, all must be -1",
        (2, 1, 0, 0): "end_lineno is before lineno",
        (2, 1, -1, -1): "end_lineno is before lineno",
        (1, 1, 2, 1): "end_col_offset is before col_offset",
        (1, -1, 2, 1): "end_col_offset is before col_offset",
    }

    def test_locations(self):
        good = [(1, 1, 0, 0), UNKNOWN, (1, 2, 1, 0), (INT_MAX,) * 4]
        make(good)
        for bad, message in self.BAD_LOCATIONS.items():
            for i in range(len(good) + 1):
                self.fails(ValueError, f"^location {i}: .*{message}",
                           [*good[:i], bad, *good[i:]])
        # The first one is named.
        self.fails(ValueError, "location 1: ", [good[0], *self.BAD_LOCATIONS])

    def test_lines_above_int_max(self):
        for i in range(4):
            numbers = [1, 1, 1, 1]
            numbers[i] = INT_MAX + 1
            self.fails(OverflowError, "", [tuple(numbers)])

    def test_names(self):
        class Name(str):
            pass

        for i, what in enumerate(("filename", "name", "qualname")):
            for bad in (None, b"bytes", 42, Name("subclass")):
                names = ["f", "n", "q"]
                names[i] = bad
                if bad is None and what == "qualname":
                    continue
                kind = "NULL" if bad is None else type(bad).__name__
                self.fails(TypeError, f"^{what} must be str, not .*{kind}", [],
                           *names)
        self.fails(TypeError, "^name must be str, not NULL", [], "f", None)

    def test_firstlineno(self):
        for line in (-1, -2, -INT_MAX - 1):
            self.fails(ValueError, "firstlineno", [], firstlineno=line)

    def test_numbers(self):
        args = "f", "n", "q", 1
        for locations in (None, [(1, 1, 0, 0)]):
            for number in (-1, -2, -sys.maxsize - 1):
                self.fails(ValueError, "num_locations must not be negative",
                           locations, *args, number)
            # None of them is read.
            for number in (2**30, INT_MAX // 2 - 2, sys.maxsize):
                self.fails(OverflowError, "too many", locations, *args, number)
        for number in (1, 2, INT_MAX // 2 - 3):
            self.fails(ValueError, "locations must not be NULL", None, *args,
                       number)

    def test_failures_do_not_leak(self):
        def fail(number):
            for _ in range(number):
                for bad in self.BAD_LOCATIONS:
                    try:
                        make([(1, 1, 0, 0), bad], "f" * 100, "n" * 100)
                    except ValueError:
                        pass
                for args in ((), ("f", None), ("f", "n", 5)):
                    try:
                        make([], *args, firstlineno=-1)
                    except (TypeError, ValueError):
                        pass

        # Without a GIL memory is also freed later; a leak is there always.
        blocks = []
        for _ in range(5):
            fail(100)
            blocks.append(sys.getallocatedblocks())
        self.assertLess(min(map(operator.sub, blocks[1:], blocks)), 100)

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_allocation_failures(self):
        script = textwrap.dedent("""
            import _testcapi
            locations = [(i + 1, i + 2, i, i) for i in range(1000)]
            args = "f", "n", None, 1, locations
            code = _testcapi.code_newwithlocations(*args)
            expected = list(code.co_positions())
            for alone in (False, True):
                failures = 0
                for start in range(50):
                    try:
                        _testcapi.set_nomemory(start,
                                               start + 1 if alone else 0)
                        code = _testcapi.code_newwithlocations(*args)
                    except MemoryError:
                        _testcapi.remove_mem_hooks()
                        failures += 1
                    else:
                        _testcapi.remove_mem_hooks()
                        assert list(code.co_positions()) == expected
                # The array of the layer, bytecode, table, code object.
                assert failures >= 4, failures
                assert failures < 50
        """)
        script_helper.assert_python_ok("-c", script)


if __name__ == "__main__":
    unittest.main()
