"""Tests of the sessions of debuggers."""

import json
from pathlib import Path
import socket
import tempfile
import threading
import unittest

from prove.clients import dap, debugpy_sessions, pdb_sessions, programs


class PdbTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.language = programs.Cython()
        self.subject = programs.Subject(
            self.language, Path(folder.name), "false",
            self.language.source.lines, self.language.source.starts, False)
        self.language.fill(self.subject.folder)

    def show(self, reply):
        return pdb_sessions.show(self.subject, reply)

    def test_place(self):
        line = self.language.line_of("total = number + 1")
        place = f"> {self.subject.folder}/shapes.pyx({line})leaf()"
        self.assertEqual(self.show(f"{place}\n-> total = number + 1\n"),
                         [f"> shapes:{line} leaf", "the line"])
        self.assertEqual(self.show(f"{place}->2\n-> another")[1],
                         "-> another")
        self.assertEqual(self.show("> a/bdb.py(5)run()"), ["> bdb:0 run"])

    def test_list(self):
        line = self.language.line_of("total = number + 1")
        self.assertEqual(
            self.show(f"> shapes.pyx({line})leaf()\n"
                      f" {line} B->\t    total = number + 1\n"
                      f" {line + 1}  \t    another")[1:],
            [f"{line} B-> the line", f"{line + 1}      another"])

    def test_traceback(self):
        self.assertEqual(
            self.show('Traceback:\n  File "a/pdb.py", line 2, in main\n'
                      '    x\n    ^\n  File "around.py", line 3, in main\n'
                      "KeyError"),
            ["Traceback:", "around:3 main", "KeyError"])

    def test_breakpoint(self):
        line = self.language.line_of("total = number + 1")
        self.assertEqual(self.show(f"Breakpoint 1 at shapes.pyx:{line}"),
                         [f"Breakpoint 1 at shapes:{line}"])
        self.assertEqual(self.show("*** Jump failed: one reason"),
                         self.show("*** Jump failed: another"))


class SessionsTest(unittest.TestCase):

    def test_lines(self):
        for language in programs.Cython(), programs.Basic():
            for lines, *_ in debugpy_sessions.SESSIONS[language.name].values():
                for line in lines:
                    self.assertGreater(language.line_of(line), 0)


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
        connection = dap.Connection(server.getsockname()[1])
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
        with self.assertRaisesRegex(dap.ProtocolError,
                                    "no such thread"):
            self.serve(refusal).request("next")
        with self.assertRaisesRegex(dap.ProtocolError,
                                    "no such thread"):
            self.serve(refusal).event("stopped")

    def test_end(self):
        with self.assertRaisesRegex(dap.HungUp, "hung up"):
            self.serve().request("next")

    def test_program_that_ends_unsaid(self):
        event = {"type": "event", "event": "stopped"}
        self.assertEqual(list(dap.go_on(self.serve(), ["next"])), [])
        with self.assertRaises(dap.HungUp):
            self.serve(event).event("terminated")
