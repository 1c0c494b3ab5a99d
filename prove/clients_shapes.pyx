# cython: linetrace=True, profile=True, language_level=3
"""What make clients debugs and measures: the same in Cython and in Python."""


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


def unused(number):
    total = 1
    return total


class Shape:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side * self.side
