"""A program of BASIC, and the Python code around it.

python clients_basic.py PROGRAM
"""

import io
import sys

import tinybasic


def double(number):
    if number < 0:
        return 0
    return 2 * number


def main(path):
    with open(path) as file:
        program = tinybasic.Program(file.read(), path)
    program.run({"DOUBLE": double}, None, io.StringIO())


if __name__ == "__main__":
    main(sys.argv[1])
