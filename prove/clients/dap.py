"""A client of the protocol that debuggers speak with editors (DAP)."""

import contextlib
import json
import random
import socket
import subprocess
import time

from series.common import SeriesError, clean_environment

# How long a message may take, and the program's end.
TIMEOUT = 60


class ProtocolError(SeriesError):
    """The debugger says no, or nothing."""


class HungUp(ProtocolError):
    """The debugger has ended."""


class Connection:
    """Requests and what comes back."""

    def __init__(self, port):
        self.socket = connect(port)
        self.file = self.socket.makefile("rwb")
        self.last = 0
        self.events = []

    def close(self):
        # What could not be sent is of no use to one that has hung up.
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()

    def send(self, command, **arguments):
        """Send a request; return its number."""
        self.last += 1
        body = json.dumps({"seq": self.last, "type": "request",
                           "command": command,
                           "arguments": arguments}).encode()
        try:
            self.file.write(b"Content-Length: %d\r\n\r\n%b"
                            % (len(body), body))
            self.file.flush()
        except OSError as error:
            raise HungUp("the debugger has hung up") from error
        return self.last

    def read(self):
        """Return the next message."""
        length = 0
        while True:
            try:
                line = self.file.readline()
            except socket.timeout:
                raise ProtocolError("the debugger hangs") from None
            except OSError:
                line = b""
            if not line:
                raise HungUp("the debugger has hung up")
            name, _, value = line.strip().partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if not name:
                return json.loads(self.file.read(length))

    def response(self, number):
        """Return the body of the response to a request."""
        while True:
            message = self.read()
            if message["type"] == "event":
                self.events.append(message)
            elif message.get("request_seq") == number:
                if not message["success"]:
                    raise ProtocolError(message.get("message"))
                return message.get("body")

    def request(self, command, **arguments):
        return self.response(self.send(command, **arguments))

    def event(self, *names):
        """Return the next event of one of the names."""
        while True:
            for message in self.events:
                if message["event"] in names:
                    self.events.remove(message)
                    return message
            message = self.read()
            if message["type"] == "event":
                self.events.append(message)
            elif not message.get("success", True):
                raise ProtocolError(message.get("message"))


def connect(port):
    """Connect to a debugger that starts."""
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), TIMEOUT)
        except OSError as error:
            if time.monotonic() > end:
                raise ProtocolError("the debugger does not listen") from error
            time.sleep(0.05)


def free_port():
    """Return a port that is free, of those that no system gives away itself:
    other debuggers start at the same time."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as server:
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def debug(command, folder, log, breakpoints, commands, **environment):
    """Debug a program; return its stops and its exit status.

    The command gets the address to listen at for {}.  breakpoints are {file:
    lines}; of the commands, the last is repeated until the program ends.  A
    stop is (reason, [(path, line, function), ...]), the innermost first.
    """
    attempts = 3
    while True:
        port = free_port()
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [str(part).format(f"127.0.0.1:{port}") for part in command],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT,
                env=clean_environment(**environment))
        try:
            with contextlib.closing(Connection(port)) as connection:
                try:
                    begin(connection, breakpoints)
                except HungUp:
                    # On a busy machine one may give up before it starts.
                    attempts -= 1
                    if not attempts:
                        raise
                    continue
                stops = list(go_on(connection, commands))
                with contextlib.suppress(HungUp):
                    connection.send("disconnect")
            return stops, process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ProtocolError("the program does not end") from None
        finally:
            process.kill()
            process.wait()


def begin(connection, breakpoints):
    """Have the program that waits for it start."""
    connection.request("initialize", adapterID="clients", pathFormat="path")
    attached = connection.send("attach", justMyCode=True)
    connection.event("initialized")
    for path, lines in breakpoints.items():
        connection.request("setBreakpoints", source={"path": str(path)},
                           breakpoints=[{"line": line} for line in lines])
    connection.request("setExceptionBreakpoints", filters=["uncaught"])
    connection.request("configurationDone")
    connection.response(attached)


def go_on(connection, commands):
    """Yield each stop, with the next command after it, until the program ends;
    the debugger may do so before it says that."""
    commands = iter(commands)
    command = None
    with contextlib.suppress(HungUp):
        while True:
            event = connection.event("stopped", "terminated")
            if event["event"] == "terminated":
                return
            thread = event["body"]["threadId"]
            frames = connection.request("stackTrace",
                                        threadId=thread)["stackFrames"]
            yield event["body"]["reason"], [
                (frame["source"]["path"], frame["line"], frame["name"])
                for frame in frames]
            command = next(commands, command)
            connection.request(command, threadId=thread)
