# cython: language_level=3, linetrace=True, profile=True, binding=True
"""A module with one of everything that Cython signals."""


def fibonacci(int n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def generate(n):
    for i in range(n):
        got = yield i * i
        if got is not None:
            yield got


def consume(n):
    total = 0
    generator = generate(n)
    for value in generator:
        total += value
    generator = generate(n)
    next(generator)
    total += generator.send(100)
    generator.close()
    return total


async def answer(n):
    return n + 1


async def ask(n):
    total = 0
    for i in range(n):
        total += await answer(i)
    return total


def drive(n):
    coroutine = ask(n)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class Account:
    def __init__(self, balance):
        self.balance = balance

    def draw(self, amount):
        if amount > self.balance:
            raise ValueError("overdrawn")
        self.balance -= amount
        return self.balance


cdef class Point:
    cdef public int x

    def __init__(self, x):
        self.x = x

    cpdef int moved(self, int by):
        return self.x + by

    @property
    def twice(self):
        return 2 * self.x


def handle(account):
    try:
        account.draw(1000)
    except ValueError:
        handled = True
    finally:
        done = True
    return handled and done


def throw_into():
    def inner():
        try:
            yield 1
        except KeyError:
            yield 2

    generator = inner()
    next(generator)
    return generator.throw(KeyError("thrown"))


cdef double add_up(int n) noexcept nogil:
    cdef int i
    cdef double total = 0
    for i in range(n):
        total += i
    return total


def without_gil(int n):
    cdef double total
    with nogil:
        total = add_up(n)
        total += 1
    return total


def never_called():
    return "not covered"


def main():
    account = Account(10)
    point = Point(3)
    return (fibonacci(10), consume(5), drive(3), account.draw(4),
            handle(account), throw_into(), point.moved(2), point.twice,
            without_gil(10))
