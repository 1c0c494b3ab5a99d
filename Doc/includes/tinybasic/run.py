"""Run a BASIC program: python run.py PROGRAM"""

import os
import sys

import tinybasic

path = os.path.abspath(sys.argv[1])
with open(path) as file:
    program = tinybasic.Program(file.read(), path)
program.run()
