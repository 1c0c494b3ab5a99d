"""The Python code around shapes.

python around.py [fail]: prints what the functions give; with an argument, an
exception of theirs ends it.
"""

import sys

import shapes


def callback(number):
    doubled = number * 2
    return doubled


def main():
    print(shapes.middle(1, callback))
    print(shapes.recurse(2))
    print(shapes.handling(1))
    print(shapes.loop(4))
    print(sum(shapes.numbers(2)))
    print(shapes.consume(3))
    print(shapes.closure(1))
    print(shapes.drive(1))
    print(shapes.without_gil(3))
    print(shapes.Shape(2).area())
    print(shapes.Square(3).area())
    if len(sys.argv) > 1:
        shapes.failing(1)


if __name__ == "__main__":
    main()
