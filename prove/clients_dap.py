"""A client of the protocol that debuggers speak with editors (DAP)."""

import json
import socket
import subprocess
import time

from series.common import SeriesError, clean_environment

# How long a message may take, and the program's end.
TIMEOUT = 60


class ProtocolError(SeriesError):
    """The debugger says no, or nothing."""


class Connection:
    """Requests and what comes back."""

    def __init__(self, port):
        self.socket = connect(port)
        self.file = self.socket.makefile("rwb")
        self.last = 0
        self.events = []

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, command, **arguments):
        """Send a request; return its number."""
        self.last += 1
        body = json.dumps({"seq": self.last, "type": "request",
                           "command": command,
                           "arguments": arguments}).encode()
        self.file.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.file.flush()
        return self.last

    def read(self):
        """Return the next message."""
        length = 0
        while True:
            try:
                line = self.file.readline()
            except OSError:
                line = b""
            if not line:
                raise ProtocolError("the debugger has hung up or hangs")
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
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def debug(command, folder, log, breakpoints, commands, **environment):
    """Debug a program; return its stops and its exit status.

    The command gets the address to listen at for {}.  breakpoints are {file:
    lines}; of the commands, the last is repeated until the program ends.  A
    stop is (reason, [(path, line, function), ...], {name: value}), the
    innermost first and with its variables.
    """
    port = free_port()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [str(part).format(f"127.0.0.1:{port}") for part in command],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, env=clean_environment(**environment))
    try:
        connection = Connection(port)
        try:
            begin(connection, breakpoints)
            stops = list(go_on(connection, commands))
            connection.send("disconnect")
        finally:
            connection.close()
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
    """Yield each stop, with the next command after it."""
    commands = iter(commands)
    command = None
    while True:
        event = connection.event("stopped", "terminated")
        if event["event"] == "terminated":
            return
        thread = event["body"]["threadId"]
        frames = connection.request("stackTrace",
                                    threadId=thread)["stackFrames"]
        yield event["body"]["reason"], [
            (frame["source"]["path"], frame["line"], frame["name"])
            for frame in frames], read_locals(connection, frames[0]["id"])
        command = next(commands, command)
        connection.request(command, threadId=thread)


def read_locals(connection, frame):
    """Return {name: value} of a frame."""
    scopes = connection.request("scopes", frameId=frame)["scopes"]
    reference = scopes[0]["variablesReference"]
    found = connection.request("variables", variablesReference=reference)
    return {variable["name"]: variable["value"]
            for variable in found["variables"]}
