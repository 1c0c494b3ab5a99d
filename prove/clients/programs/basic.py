"""The Python code around a program of BASIC.

python basic.py [fail]: with an argument, an exception of a function that the
program calls ends it.
"""

import io
import sys

import tinybasic

PATH = "counting.bas"


def double(number):
    if len(sys.argv) > 1:
        raise LookupError(number)
    return 2 * number


def main():
    with open(PATH) as file:
        program = tinybasic.Program(file.read(), PATH)
    program.run({"DOUBLE": double}, None, io.StringIO())


if __name__ == "__main__":
    main()
