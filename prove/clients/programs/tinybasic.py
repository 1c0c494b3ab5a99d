"""What the module of Tiny BASIC has, for counting.py."""

from counting import MAIN


class Program:
    def __init__(self, source, path):
        self.run = MAIN
