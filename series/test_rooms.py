"""Tests of who knows whom, and of what the rooms add to the command line."""

import ast
from collections import Counter
import unittest

from series import rooms
from series.workspace import ROOT


def imported_rooms(path, names):
    """Yield the rooms from which a file imports.

    An import that starts with a dot stays within its room.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        yield from {module.split(".")[0] for module in modules} & set(names)


class RoomsTest(unittest.TestCase):
    def test_rooms_know_the_patch_queue_alone(self):
        names = rooms.rooms(ROOT)
        self.assertIn(rooms.QUEUE, names)
        for room in names:
            for path in (ROOT / room).rglob("*.py"):
                for other in imported_rooms(path, names):
                    self.assertIn(other, {room, rooms.QUEUE},
                                  path.relative_to(ROOT))

    def test_no_target_is_of_two_rooms(self):
        targets = Counter(target for room in rooms.rooms(ROOT)
                          for target in rooms.commands_of(room))
        self.assertEqual(max(targets.values()), 1, targets)
