"""Numba's functions and their Python caller.

Numba's dispatcher signals the start and the end of a function for the code
object of the Python function.
"""

import numba


@numba.njit
def total(number):
    result = 0
    for i in range(number):
        result += i
    return result


@numba.jit(forceobj=True)
def calling(function, number):
    return function(number)


def callback(number):
    doubled = 2 * number
    return doubled


def main():
    found = total(4)
    found += total(5)
    found += calling(callback, 3)
    return found


print(main())
