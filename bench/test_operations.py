"""Tests of what is measured."""

from pathlib import Path
import unittest
from unittest import mock

from bench import columns, count, operations, times


class OperationTest(unittest.TestCase):
    """What is measured."""

    def test_names_are_unique(self):
        names = [operation.name for operation in operations.all_operations()]
        self.assertEqual(len(names), len(set(names)))

    def test_what_is_asked_for_by_name_exists(self):
        self.assertLessEqual(
            {*times.THREADED, *count.PROFILED, operations.IDLE},
            operations.known().keys())

    def test_every_operation_is_counted_once(self):
        with mock.patch.object(columns.builder, "build_python"), \
                mock.patch.object(columns, "compile_loops"):
            column = columns.our_column(Path("build"))
        counted = [name for share in column.shares for name in share]
        self.assertCountEqual(counted, operations.known())

    def test_every_event_is_measured_in_every_state(self):
        for event in operations.EVENTS:
            found = [operation for operation in operations.all_operations()
                     if operation.name.startswith(f"{event.name}, ")]
            self.assertEqual(len(found), 10, event)

    def test_what_depends_on_addresses_has_many_layouts(self):
        for operation in operations.all_operations():
            looked_up = operation.disabled[0] or operation.others
            if operation.twin == "nothing" and looked_up:
                self.assertGreaterEqual(
                    operation.layouts, 1 if operation.target else 20,
                    operation.name)

    def test_no_scope_reads_past_stocks_array(self):
        self.assertLess(max(operations.scope_types(16)), 15)
