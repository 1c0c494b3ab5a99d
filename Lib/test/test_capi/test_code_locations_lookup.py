"""sys.monitoring.get_location(), for bytecode and for any code-like."""

import difflib
import dis
import fnmatch
import gc
import itertools
import json.decoder
import opcode
import operator
import shlex
import string
import sys
import textwrap
import types
import unittest
import weakref
from test import support
from test.support import import_helper, script_helper

_testcapi = import_helper.import_module("_testcapi")

monitoring = sys.monitoring
get_location = monitoring.get_location
INT_MAX = 2**31 - 1
NOWHERE = (None, None, None, None)


def code_objects(namespace):
    """Yield the code objects of the functions in a namespace, and theirs."""
    for value in list(vars(namespace).values()):
        if isinstance(value, type) and value.__module__ == namespace.__name__:
            functions = [f for f in vars(value).values()
                         if isinstance(f, types.FunctionType)]
        elif isinstance(value, types.FunctionType):
            functions = [value]
        else:
            continue
        for function in functions:
            yield from nested(function.__code__)


def nested(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from nested(const)


def make_long():
    """A function with EXTENDED_ARG before names, constants and jumps."""
    lines = ["def f(n):", "    for i in range(n):"]
    for i in range(300):
        lines += [f"        if i == {1000 + i}:", f"            name{i} = i"]
    lines += ["    return len(str(n))"]
    namespace = {}
    exec("\n".join(lines), namespace)
    return namespace["f"]


class TestBytecode(unittest.TestCase):

    def check_all(self, code):
        offset = -2
        for offset, position in zip(itertools.count(0, 2),
                                    code.co_positions()):
            location = get_location(code, offset)
            self.assertEqual(location, (code.co_filename, *position))
        self.assertRaises(ValueError, get_location, code, offset + 2)
        self.assertEqual(offset + 2, len(code.co_code))

    def test_every_unit(self):
        for module in (textwrap, json.decoder, shlex, difflib, fnmatch):
            for code in code_objects(module):
                with self.subTest(code=code):
                    self.check_all(code)

    def test_extended_arg_and_caches(self):
        code = make_long().__code__
        opcodes = code.co_code[::2]
        self.assertIn(opcode.opmap["EXTENDED_ARG"], opcodes)
        self.assertIn(opcode.opmap["CACHE"], opcodes)
        self.check_all(code)

    def test_module_code(self):
        # RESUME of a module is at line 0.
        code = compile("a = 1\n\n\nb = 2\n", "module.py", "exec")
        self.check_all(code)
        self.assertEqual(get_location(code, 0).lineno, 0)

    def record_events(self, run):
        """Run it with all events; return {code: offsets of its events}."""
        seen = {}
        listening = True

        def record(code, offset, *args):
            if listening:
                # To hash a code object takes long.
                offsets = seen.setdefault(id(code), (code, set()))[1]
                offsets.add(offset)
                offsets.update(arg for arg in args if type(arg) is int)

        monitoring.use_tool_id(2, "test")
        events = 0
        names = ["PY_START", "PY_RETURN", "PY_RESUME", "PY_YIELD", "CALL",
                 "C_RETURN", "C_RAISE", "INSTRUCTION", "JUMP", "BRANCH",
                 "PY_UNWIND", "EXCEPTION_HANDLED", "RERAISE"]
        for name in names:
            # PY_RETURN and PY_YIELD pass values, not offsets.
            event = getattr(monitoring.events, name)
            callback = record
            if name in ("PY_RETURN", "PY_YIELD", "CALL", "C_RETURN",
                        "C_RAISE"):
                def callback(code, offset, *args):
                    record(code, offset)
            monitoring.register_callback(2, event, callback)
            events |= event
        try:
            monitoring.set_events(2, events)
            run()
        finally:
            listening = False
            monitoring.set_events(2, 0)
            for name in names:
                monitoring.register_callback(
                    2, getattr(monitoring.events, name), None)
            monitoring.free_tool_id(2)
        return dict(seen.values())

    def check_events(self, run, filename):
        """Check the place of each; return how many are of a file."""
        of_file = 0
        for code, offsets in self.record_events(run).items():
            positions = list(code.co_positions())
            for offset in offsets:
                self.assertEqual(get_location(code, offset),
                                 (code.co_filename, *positions[offset // 2]))
            if code.co_filename == filename:
                of_file += len(offsets)
        return of_file

    def test_events(self):
        text = "a 'quoted text' and words that go on and on\n" * 20

        def parse():
            try:
                json.decoder.JSONDecoder().decode('{"a": [1, 2.5, null]} x')
            except ValueError:
                pass

        for module, run in (
            (textwrap, lambda: textwrap.fill(text, 30)),
            (shlex, lambda: shlex.split(text)),
            (json.decoder, parse),
            (difflib, lambda: difflib.get_close_matches("ab", ["ac", "bc"])),
            (fnmatch, lambda: fnmatch.translate("a*[b-c]?d")),
            (string, lambda: string.Template("$a ${b} $$").safe_substitute()),
        ):
            with self.subTest(module=module):
                number = self.check_events(run, module.__file__)
                self.assertGreater(number, 10)

    def test_events_of_long_code(self):
        function = make_long()
        offsets = self.record_events(lambda: function(2))[function.__code__]
        extended = {instruction.offset - 2
                    for instruction in dis.get_instructions(function)
                    if instruction.arg is not None and instruction.arg > 255}
        self.assertTrue(offsets & extended)
        self.assertTrue(self.check_events(lambda: function(2), "<string>"))

    def test_short_table(self):
        # What is beyond a table has no location.
        code = (lambda: 1).__code__
        # A new entry is where the highest bit is.
        second = next(i for i, byte in enumerate(code.co_linetable)
                      if i and byte & 128)
        for table in (b"", code.co_linetable[:second]):
            other = code.replace(co_linetable=table)
            known = list(other.co_positions())
            for offset in range(0, len(other.co_code), 2):
                expected = (known[offset // 2] if offset // 2 < len(known)
                            else NOWHERE)
                self.assertEqual(get_location(other, offset),
                                 (code.co_filename, *expected))

    def test_empty_code(self):
        code = _testcapi.code_newempty("empty.src", "empty", 5)
        self.check_all(code)
        self.assertEqual(get_location(code, 2),
                         ("empty.src", 5, 5, None, None))


class TestResult(unittest.TestCase):

    def test_named_tuple(self):
        code = _testcapi.code_newwithlocations(
            "f.src", "f", None, 1, [(3, 4, 5, 6), (-1, -1, -1, -1)])
        location = get_location(code, 0)
        self.assertIsInstance(location, tuple)
        self.assertEqual(
            (location.filename, location.lineno, location.end_lineno,
             location.col_offset, location.end_col_offset),
            ("f.src", 3, 4, 5, 6))
        filename, *numbers = location
        self.assertEqual((filename, numbers), ("f.src", [3, 4, 5, 6]))
        self.assertRegex(repr(location), r"filename='f\.src', lineno=3")
        self.assertEqual(get_location(code, 2), ("f.src", *NOWHERE))
        self.assertIs(type(get_location(code, 2)), type(location))

    def test_offsets(self):
        codes = [
            _testcapi.code_newwithlocations("f", "f", None, 1,
                                            [(1, 1, 0, 1)] * 3),
            (lambda: 1).__code__,
            Positions([(1, 1, 0, 1)] * 3),
            Includes(),
            Bare(),
        ]
        for code in codes:
            with self.subTest(code=code):
                for offset in (-1, -2, -INT_MAX - 1, -2**31, -2**100):
                    with self.assertRaisesRegex(ValueError, "negative"):
                        get_location(code, offset)
                for offset in (INT_MAX + 1, 2**32, 2**100):
                    with self.assertRaisesRegex(ValueError, "beyond"):
                        get_location(code, offset)
                for offset in ("0", 0.0, None):
                    self.assertRaises(TypeError, get_location, code, offset)
                if not isinstance(code, Bare):
                    for offset in (1, 3, INT_MAX):
                        with self.assertRaisesRegex(ValueError, "odd"):
                            get_location(code, offset)
                if not isinstance(code, (Bare, Includes)):
                    with self.assertRaisesRegex(ValueError, "beyond"):
                        get_location(code, 100)
                get_location(code, False)

    def test_arguments(self):
        for args in ((), (Bare(),), (Bare(), 0, 0)):
            self.assertRaises(TypeError, get_location, *args)
        self.assertRaises(TypeError, get_location, code=Bare(), offset=0)

    def test_no_code_like(self):
        class NoName:
            co_firstlineno = 1

        class NoLine:
            co_filename = "f"

        for obj in (None, 42, "code", object(), len, (lambda: 1), NoName(),
                    NoLine(), types.SimpleNamespace()):
            with self.subTest(obj=obj):
                with self.assertRaisesRegex(TypeError, "must be a code obj"):
                    get_location(obj, 0)

    def test_subinterpreter(self):
        script = textwrap.dedent("""
            import sys
            location = sys.monitoring.get_location(compile("1", "f", "eval"),
                                                   2)
            assert location.filename == "f" and location.lineno == 1
        """)
        self.assertEqual(support.run_in_subinterp(script), 0)


class Bare:
    """Knows its first line only, and numbers its locations as it likes."""

    co_name = "bare"
    co_filename = "bare.src"
    co_firstlineno = 7


class Positions(Bare):

    def __init__(self, positions):
        self.positions = positions

    def co_positions(self):
        return self.positions


class Located(Bare):

    def __init__(self, location):
        self.location = location

    def co_location(self, offset):
        return self.location

    def co_positions(self):
        raise AssertionError("it is asked after co_location()")


class Includes:
    """A page of which each second location is in a file that it includes."""

    def co_location(self, offset):
        index = offset // 2
        filename = ("page.html", "footer.html")[index % 2]
        return filename, index + 1, index + 2, None, index


class Name(str):
    pass


class TestDuckTyping(unittest.TestCase):

    def test_positions(self):
        positions = [(1, 1, 0, 3), (1, 2, None, None), NOWHERE, (0, 0, 0, 0),
                     (INT_MAX,) * 4, (5, None, 3, -1)]
        for iterable in (list, tuple, iter, lambda items: (p for p in items)):
            for i, position in enumerate(positions):
                codelike = Positions(iterable(positions))
                expected = tuple(None if number == -1 else number
                                 for number in position)
                self.assertEqual(get_location(codelike, 2 * i),
                                 ("bare.src", *expected))
            codelike = Positions(iterable(positions))
            with self.assertRaisesRegex(ValueError, "offset 12 is beyond"):
                get_location(codelike, 12)

    def test_positions_without_firstlineno(self):
        codelike = types.SimpleNamespace(
            co_filename="f", co_positions=lambda: [(1, 2, 3, 4)])
        self.assertEqual(get_location(codelike, 0), ("f", 1, 2, 3, 4))

    def test_no_more_is_asked_than_needed(self):
        taken = []

        def positions():
            for i in range(10):
                taken.append(i)
                yield i, i, i, i

        self.assertEqual(get_location(Positions(positions()), 6)[1], 3)
        self.assertEqual(taken, [0, 1, 2, 3])

    def test_location(self):
        page = Includes()
        self.assertEqual(get_location(page, 0), ("page.html", 1, 2, None, 0))
        self.assertEqual(get_location(page, 2),
                         ("footer.html", 2, 3, None, 1))
        self.assertEqual(get_location(Located(("x", 1, 2, 3, 4)), 8),
                         ("x", 1, 2, 3, 4))

    def test_only_firstlineno(self):
        for offset in (0, 1, 2, 3, INT_MAX):
            self.assertEqual(get_location(Bare(), offset),
                             ("bare.src", *NOWHERE))

    def test_filenames(self):
        for text in ("", "\udcff", "x" * 10**5):
            located = Located((Name(text), 1, 1, 1, 1))
            named = Positions([NOWHERE])
            named.co_filename = Name(text)
            for codelike in located, named:
                filename = get_location(codelike, 0).filename
                self.assertEqual(filename, text)
                self.assertIs(type(filename), str)

    def test_nonsense(self):
        good = "f", 1, 2, 3, 4
        for bad in (None, 42, "f1234", [*good], (), good[:4], (*good, 5)):
            with self.assertRaisesRegex(TypeError, "co_location.* 5 items"):
                get_location(Located(bad), 0)
        for filename in (None, b"f", 1):
            with self.assertRaisesRegex(TypeError, "file of co_location"):
                get_location(Located((filename, 1, 2, 3, 4)), 0)
            codelike = Positions([good[1:]])
            codelike.co_filename = filename
            with self.assertRaisesRegex(TypeError, "co_filename must be str"):
                get_location(codelike, 0)
        for bad in (None, 42, "abcd", [1, 2, 3, 4], (), (1, 2, 3), good):
            with self.assertRaisesRegex(TypeError, "co_positions.* 4 items"):
                get_location(Positions([bad]), 0)
        for bad in (None, 42, object()):
            self.assertRaises(TypeError, get_location, Positions(bad), 0)
        for number, error in (("1", TypeError), (1.0, TypeError),
                              (-2, ValueError), (-2**31, ValueError),
                              (2**31, OverflowError), (2**99, OverflowError),
                              (-2**99, OverflowError)):
            for i in range(4):
                numbers = [1, 2, 3, 4]
                numbers[i] = number
                for codelike in (Located(("f", *numbers)),
                                 Positions([tuple(numbers)])):
                    self.assertRaises(error, get_location, codelike, 0)

    def test_methods_that_raise(self):
        class Error(Exception):
            pass

        def fail(*args):
            raise Error

        def fail_later():
            yield NOWHERE
            raise Error

        class FailingIter:
            __iter__ = fail

        for name in ("co_location", "co_positions"):
            codelike = Bare()
            setattr(codelike, name, fail)
            self.assertRaises(Error, get_location, codelike, 0)
        self.assertRaises(Error, get_location, Positions(FailingIter()), 0)
        self.assertRaises(Error, get_location, Positions(fail_later()), 2)
        self.assertEqual(get_location(Positions(fail_later()), 0),
                         ("bare.src", *NOWHERE))
        for name in ("co_location", "co_filename", "co_positions",
                     "co_firstlineno"):
            kind = type("Failing", (Bare,), {name: property(fail)})
            self.assertRaises(Error, get_location, kind(), 0)
        # What has no such attribute raises AttributeError.
        for name in ("co_location", "co_positions"):
            codelike = Bare()
            setattr(codelike, name, None)
            self.assertRaises(TypeError, get_location, codelike, 0)

    def test_what_dies_meanwhile(self):
        class Dying(Bare):
            def co_location(self, offset):
                self.__dict__.clear()
                del Dying.co_location
                nonlocal reference
                reference = weakref.ref(self)
                del self
                gc.collect()
                return "".join(["f", "g"]), 1, 2, 3, 4

        reference = None
        self.assertEqual(get_location(Dying(), 0), ("fg", 1, 2, 3, 4))
        gc.collect()
        self.assertIsNone(reference())

        class Emptied(Bare):
            def co_positions(self):
                positions.clear()
                return iter(positions)

        positions = [(1, 2, 3, 4)]
        self.assertRaises(ValueError, get_location, Emptied(), 0)

        class Shrinking:
            def __iter__(self):
                return self

            def __next__(self):
                codelike.positions = None
                codelike.__class__ = Bare
                return 1, 2, 3, 4

        codelike = Positions(Shrinking())
        self.assertEqual(get_location(codelike, 4), ("bare.src", 1, 2, 3, 4))

    def test_no_leaks(self):
        codelikes = [
            # It makes another tuple each time.
            Includes(), Located(("f", 1, 2, 3)),
            Located((None, 1, 2, 3, 4)), Located(("f", -2, 2, 3, 4)),
            Positions([(1000, 2000, 3000, 4000)] * 3), Positions([()] * 3),
            Positions([NOWHERE]), Positions(None), Bare(), 42,
            (lambda: 1).__code__,
        ]

        def run(number):
            for _ in range(number):
                for codelike in codelikes:
                    for offset in (-1, 1, 2, 2000):
                        try:
                            get_location(codelike, offset)
                        except (TypeError, ValueError):
                            pass

        # Without a GIL memory is also freed later; a leak is there always.
        blocks = []
        for _ in range(5):
            run(50)
            blocks.append(sys.getallocatedblocks())
        self.assertLess(min(map(operator.sub, blocks[1:], blocks)), 100)

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_allocation_failures(self):
        script = textwrap.dedent(f"""
            import _testcapi, sys
            from {__name__} import Bare, Located, Name, Positions
            numbers = 1000, 2000, 3000, 4000
            named = Located((Name("file"), *numbers))
            for codelike in (
                _testcapi.code_newwithlocations("file", "n", None, 1,
                                                [numbers] * 200),
                named, Positions([numbers] * 200), Bare(),
            ):
                get_location = sys.monitoring.get_location
                expected = get_location(codelike, 300)
                for alone in (False, True):
                    failures = 0
                    for start in range(50):
                        try:
                            _testcapi.set_nomemory(start,
                                                   start + 1 if alone else 0)
                            location = get_location(codelike, 300)
                        except MemoryError:
                            _testcapi.remove_mem_hooks()
                            failures += 1
                        else:
                            _testcapi.remove_mem_hooks()
                            assert location == expected
                    # The result at least, unless a free list has it.
                    assert 50 > failures >= (codelike is not Bare), failures
        """)
        script_helper.assert_python_ok("-c", script)


if __name__ == "__main__":
    unittest.main()
