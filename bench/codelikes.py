"""What events are fired for, as worker.py makes it."""

import itertools
import random

import programs


class CodeLike:
    """What stands for a piece of foreign code."""

    __slots__ = ("__weakref__",)
    co_name = "code"
    co_filename = "benchmark"
    co_firstlineno = 1


def new_code():
    """Return the code of a function that nobody has called or monitored.

    It is of a middling size: local events cost more the longer a function is.
    """
    return programs.count_word.__code__.replace()


class Layout:
    """What makes objects at addresses that a number decides.

    Each has a size of code-like, and gaps between them, of its own.
    """

    # What random bytes are replaced with: one in four objects is a gap.
    three_of_four = bytes(i % 4 > 0 for i in range(256))

    def __init__(self, number):
        self.random = random.Random(number)
        slots = [f"slot_{i}" for i in range(self.random.randrange(24))]
        self.codelike = type("CodeLike", (CodeLike,), {"__slots__": slots})
        self.made = []

    def make(self, count, maker):
        """Return new objects, quickly: callgrind slows Python code down."""
        made = [maker() for _ in range(count + count // 2 + 256)]
        self.made.append(made)
        chosen = itertools.compress(
            made,
            self.random.randbytes(len(made)).translate(self.three_of_four))
        first = self.random.randrange(100)
        return list(itertools.islice(chosen, first, first + count))
