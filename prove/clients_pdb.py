"""pdb on twins of Cython and of Python: a script, and what it says."""

import re

from prove import clients_twins
from series.common import SeriesError, print_tail, say

# {} is the module's file; a line of it is written as its text in <>.
SCRIPT = """\
break {}:<total = number + 1>
break {}:<if number == 0:>
continue
where
list
up
up
down
next
step
step
return
step
step
step
clear 1
continue
where
clear 2
tbreak {}:<total += i>
continue
until
jump 1
return
step
continue
"""
# The exception ends the program; pdb shows where.
POST_MORTEM = """\
tbreak {}:<raise LookupError(number)>
continue
next
continue
where
up
list
down
"""
REFUSED = "*** Jump failed: "
PLACE = re.compile(rf"^> {clients_twins.SOURCE.stem}\.py\(", re.MULTILINE)


def check_pdb(build, cython, python):
    """Compare what pdb says of Cython with what it says of Python."""
    for title, script, arguments in (("a session", SCRIPT, ()),
                                     ("post mortem", POST_MORTEM, ("fail",))):
        replies = [run(twin, build / "clients-pdb.log", script, arguments)
                   for twin in (python, cython)]
        difference = compare(*replies)
        if difference:
            print_tail(build / "clients-pdb.log")
            raise SeriesError(f"pdb, {title}: {difference}")
        say("clients", f"pdb, {title}: {len(replies[1])} replies for "
                       f"{clients_twins.CYTHON} as for Python")


def run(twin, log, script, arguments):
    """Return [(command, reply), ...], without what differs between twins."""
    module = twin.module.name
    commands = re.sub(r"<(.*)>",
                      lambda match: str(clients_twins.line_of(match[1])),
                      script.replace("{}", module)).splitlines()
    clients_twins.run_in(
        twin.folder, [twin.tool, "-m", "pdb", twin.program.name, *arguments],
        log, "\n".join([*commands, "quit", ""]))
    text = log.read_text().replace(f"{twin.folder}/", "")
    name = clients_twins.SOURCE.stem
    # Cython's own traceback entries have the module before the function.
    text = re.sub(rf"\b{name}\.(?!pyx?\b)", "",
                  text.replace(module, f"{name}.py"))
    return list(zip(["start", *script.splitlines()],
                    [reply.rstrip() for reply in text.split("(Pdb) ")]))


def compare(in_python, in_cython):
    """Say what differs, or return None."""
    for number, ((command, expected), (_, found)) in enumerate(
            zip(in_python, in_cython)):
        if command.startswith("jump"):
            # No line of foreign code can be jumped to.
            expected, found = (reply[:len(REFUSED)]
                               for reply in (expected, found))
            if expected != REFUSED:
                return f"reply {number}, to {command}, is {expected!r}"
        if expected != found:
            return (f"reply {number}, to {command}, is {found!r} for Cython "
                    f"and {expected!r} for Python")
    if len(in_python) != len(in_cython):
        return (f"{len(in_cython)} replies for Cython and {len(in_python)} "
                f"for Python")
    if not any(name != "start" and PLACE.search(reply)
               for name, reply in in_cython):
        return "pdb did not stop"
    return None
