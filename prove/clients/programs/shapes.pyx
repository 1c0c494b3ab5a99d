# cython: linetrace=True, profile=True, language_level=3, auto_pickle=False
"""The same in Cython and in Python, for which some lines end in a comment."""

from threading import Lock

LOCK = Lock()


def leaf(number):
    total = number + 1
    return total


def middle(number, callback):
    first = leaf(number)
    second = callback(first)
    return first + second


def recurse(number):
    if number == 0:
        return 0
    below = recurse(number - 1)
    return below + 1


def failing(number):
    leaf(number)
    raise LookupError(number)


def handling(number):
    try:
        failing(number)
    except LookupError:
        number += 1
    return number


def loop(number):
    total = 0
    for i in range(number):
        if i % 2:
            total += i
        else:
            total -= i
    return total


def numbers(number):
    for i in range(number):
        yield i


def guarded(number):
    try:
        yield number
        yield number + 1
    except GeneratorExit:
        number = 0
    number += 2


def consume(number):
    generator = guarded(number)
    found = next(generator)
    found += next(generator)
    generator.close()
    return found


def closure(number):
    def add(other):
        return number + other
    return add(2)


async def answer(number):
    found = number + 1
    return found


async def ask(number):
    found = await answer(number)
    return found


def drive(number):
    coroutine = ask(number)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


cdef int add_up(int number) noexcept nogil:     #: def add_up(number):
    cdef int total = 0                          #: total = 0
    total += number
    return total


def without_gil(int number):                    #: def without_gil(number):
    cdef int total                              #:
    with nogil:                                 #: with LOCK:
        total = add_up(number)
        total += 1
    return total


def unused(number):
    total = 1
    return total


class Shape:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side * self.side


cdef class Square:                              #: class Square:
    cdef int side                               #:

    def __init__(self, side):
        self.side = side

    cpdef int area(self):                       #: def area(self):
        return self.side * self.side
