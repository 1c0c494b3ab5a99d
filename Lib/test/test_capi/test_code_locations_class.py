"""types.CodeLike."""

import random
import sys
import textwrap
import types
import unittest
from test.support import import_helper, script_helper

_testcapi = import_helper.import_module("_testcapi")


class Sample(types.CodeLike):
    """A code-like of Python, as a subclass has to be."""

    co_name = co_qualname = "sample"
    co_filename = "sample.src"
    co_firstlineno = 1

    def __init__(self, positions):
        self.positions = positions

    def co_positions(self):
        return iter(self.positions)


class TestCodeLike(unittest.TestCase):

    def test_instances(self):
        self.assertTrue(issubclass(types.CodeType, types.CodeLike))
        self.assertIsInstance((lambda: 1).__code__, types.CodeLike)
        self.assertIsInstance(Sample([]), types.CodeLike)
        self.assertIn("CodeLike", types.__all__)
        self.assertEqual(types.CodeLike.__module__, "types")

    def test_members_are_not_looked_at(self):
        class Other:
            co_name = co_qualname = co_filename = "other"
            co_firstlineno = 1

            def __init__(self, positions):
                self.positions = positions

            def co_positions(self):
                return iter(self.positions)

            def co_lines(self):
                return iter(())

        self.assertNotIsInstance(Other([]), types.CodeLike)
        self.assertFalse(issubclass(Other, types.CodeLike))
        self.assertIs(types.CodeLike.register(Other), Other)
        self.assertIsInstance(Other([]), types.CodeLike)

    def test_abstract(self):
        self.assertRaises(TypeError, types.CodeLike)

        class Incomplete(types.CodeLike):
            co_name = co_qualname = co_filename = ""
            co_firstlineno = 1

        self.assertRaises(TypeError, Incomplete)

    def test_slots(self):
        # A subclass decides what its instances can have.
        class Small(types.CodeLike):
            __slots__ = ("co_name",)

            def co_positions(self):
                return iter(())

        small = Small()
        small.co_name = "small"
        self.assertRaises(AttributeError, setattr, small, "other", 1)
        self.assertFalse(hasattr(small, "__dict__"))
        self.assertEqual(list(small.co_lines()), [])

    def test_lines(self):
        rng = random.Random(5)
        for _ in range(200):
            positions = []
            while len(positions) < rng.randrange(1, 30):
                line = rng.choice((-1, 1, 2, 3))
                positions += [(line, line, -1, -1)] * rng.randrange(1, 12)
            code = _testcapi.code_newwithlocations("f", "f", None, 1,
                                                   positions)
            self.assertEqual(
                list(Sample(list(code.co_positions())).co_lines()),
                list(code.co_lines()))
        for function in (textwrap.wrap, textwrap.dedent, textwrap.indent):
            code = function.__code__
            self.assertEqual(
                list(Sample(list(code.co_positions())).co_lines()),
                list(code.co_lines()))

    def test_it_is_lazy(self):
        lines = Sample(iter([(1, 1, 0, 1), (2, 2, 0, 1)])).co_lines()
        self.assertEqual(next(lines), (0, 2, 1))

    def test_location(self):
        sample = Sample([(1, 2, 3, 4)])
        self.assertEqual(sys.monitoring.get_location(sample, 0),
                         ("sample.src", 1, 2, 3, 4))

    def test_imports(self):
        # Many modules import types: it must not import much.
        script = "import sys; old = set(sys.modules); import types; " \
                 "print(*sorted(set(sys.modules) - old))"
        done = script_helper.assert_python_ok("-I", "-S", "-c", script)
        self.assertEqual(done.out.decode().split(), ["types"])


if __name__ == "__main__":
    unittest.main()
