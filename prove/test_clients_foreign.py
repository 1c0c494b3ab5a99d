"""Tests of what is said of tools on foreign code."""

import json
import socket
import threading
import unittest

from prove import (clients_covered, clients_dap, clients_debugpy, clients_pdb,
                   clients_twins)
from series.common import SeriesError


class CoveredTest(unittest.TestCase):
    FILE = {"lines": [1, 2], "arcs": [[-1, 1], [1, 2]]}

    def test_same(self):
        found = {"a.bas": self.FILE}
        self.assertIsNone(clients_covered.compare(found, found, True))

    def test_differences(self):
        for part, value in (("lines", [1]), ("arcs", [[-1, 1]])):
            self.assertIn(f"the {part} of a.bas", clients_covered.compare(
                {"a.bas": self.FILE}, {"a.bas": {**self.FILE, part: value}},
                True))
        self.assertIn("the files are", clients_covered.compare(
            {"a.bas": self.FILE}, {}, False))

    def test_nothing(self):
        found = {"a.bas": {"lines": [], "arcs": []}}
        self.assertEqual(clients_covered.compare(found, found, False),
                         "a.bas has no lines")

    def test_report(self):
        first = clients_twins.line_of("total = 1")
        for missing, says in (([first, first + 1], None),
                              ([first], "are reported as missing"),
                              ([], "are reported as missing")):
            said = clients_covered.compare_report(
                {clients_twins.SOURCE.name: {"missing_lines": missing}})
            self.assertEqual(said is None, says is None)
            self.assertIn(says or "", said or "")

    def test_as_python(self):
        name = clients_twins.SOURCE.name
        first = clients_twins.line_of("total = number + 1")
        found = clients_covered.as_python({name: {
            "lines": [1, first - 1, first],
            "arcs": [[-(first - 1), first], [first, first], [1, first]]}})
        self.assertEqual(found, {name.replace(".pyx", ".py"): {
            "lines": [first], "arcs": [[-(first - 1), first]]}})


class PdbTest(unittest.TestCase):
    REPLIES = [("start", "> clients_around.py(1)<module>()"),
               ("continue", "> clients_shapes.py(6)leaf()"),
               ("jump 1", "*** Jump failed: one way")]

    def test_same(self):
        other = [*self.REPLIES[:2], ("jump 1", "*** Jump failed: another")]
        self.assertIsNone(clients_pdb.compare(self.REPLIES, other))

    def test_differences(self):
        for replies, says in (
                ([*self.REPLIES[:1], ("continue", "> elsewhere")],
                 "reply 1, to continue, is"),
                ([*self.REPLIES[:2], ("jump 1", "> jumped")],
                 "reply 2, to jump 1, is"),
                (self.REPLIES[:2], "2 replies for Cython")):
            self.assertIn(says, clients_pdb.compare(self.REPLIES, replies))

    def test_jump_that_works(self):
        replies = [("jump 1", "> jumped")]
        self.assertIn("reply 0", clients_pdb.compare(replies, replies))

    def test_no_stop(self):
        self.assertEqual(clients_pdb.compare(self.REPLIES[:1],
                                             self.REPLIES[:1]),
                         "pdb did not stop")


class DebugpyTest(unittest.TestCase):
    STOPS = [("breakpoint", ["a:1 f"]), ("step", ["a:2 f"])]

    def test_same(self):
        repeated = [*self.STOPS, self.STOPS[-1]]
        self.assertIsNone(clients_debugpy.compare(
            (self.STOPS, 0), (repeated, 0), False))

    def test_differences(self):
        for found, says in (
                ((self.STOPS, 1), "ends with the status 1"),
                (([], 0), "does not stop"),
                ((self.STOPS[:1], 0), "1 stops in Cython and 2 in Python"),
                (([self.STOPS[0], ("step", ["a:3 f"])], 0), "stop 2 is")):
            self.assertIn(says, clients_debugpy.compare(
                (self.STOPS, 0), found, False))

    def test_lines_of_sessions(self):
        for lines, *_ in clients_debugpy.SESSIONS.values():
            for line in lines:
                self.assertGreater(clients_twins.line_of(line), 0)
        with self.assertRaisesRegex(SeriesError, "is to have one line"):
            clients_twins.line_of("nothing like it")


class ProtocolTest(unittest.TestCase):

    def serve(self, *messages):
        """Return a connection to a debugger that sends messages."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)

        def send():
            connection, _ = server.accept()
            with connection:
                for message in messages:
                    body = json.dumps(message).encode()
                    connection.sendall(b"Content-Length: %d\r\n\r\n%b"
                                       % (len(body), body))
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)

        thread = threading.Thread(target=send)
        thread.start()
        connection = clients_dap.Connection(server.getsockname()[1])
        self.addCleanup(thread.join)
        self.addCleanup(connection.close)
        return connection

    def test_event_before_response(self):
        connection = self.serve(
            {"type": "event", "event": "stopped"},
            {"type": "response", "request_seq": 1, "success": True,
             "body": "here"})
        self.assertEqual(connection.request("next"), "here")
        self.assertEqual(connection.event("stopped")["event"], "stopped")

    def test_failure(self):
        refusal = {"type": "response", "request_seq": 1, "success": False,
                   "message": "no such thread"}
        with self.assertRaisesRegex(clients_dap.ProtocolError,
                                    "no such thread"):
            self.serve(refusal).request("next")
        with self.assertRaisesRegex(clients_dap.ProtocolError,
                                    "no such thread"):
            self.serve(refusal).event("stopped")

    def test_end(self):
        with self.assertRaisesRegex(clients_dap.ProtocolError, "hung up"):
            self.serve().request("next")
