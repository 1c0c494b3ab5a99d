"""pdb: scripts of commands, and what it says to each."""

from pathlib import Path
import re

# {} is the module's file; a line of it is written as its text in <>.
STEPS = {
    "Cython": (("""\
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
tbreak {}:<return number + other>
continue
return
tbreak {}:<found = number + 1>
continue
where
next
continue
""", ()), ("""\
tbreak {}:<raise LookupError(number)>
continue
next
continue
where
up
list
down
""", ("fail",))),
    "Basic": (("""\
break {}:<210 LET N = N + 1>
continue
where
next
step
step
up
down
clear 1
return
step
tbreak {}:<70 NEXT I>
continue
until
step
step
jump 1
continue
""", ()), ("""\
tbreak {}:<60 CALL DOUBLE(I) INTO M>
continue
next
continue
where
up
""", ("fail",))),
}
VARIABLES = {
    "Cython": (("""\
tbreak {}:<below = recurse(number - 1)>
continue
p number
up
down
!number = 0
p number
""", ()),),
    "Basic": (("""\
tbreak {}:<230 GOSUB 200>
continue
p N
up
p N
!N = 2
down
p N
""", ()),),
}
PLACE = re.compile(r"^([> ] )(.+)\((\d+)\)([\w.]+|<\w+>)\(\)(.*)$")
ENTRY = re.compile(r'^  File "(.+)", line (\d+), in (.+)$')
LISTED = re.compile(r"^ *(\d+) *(B?)(->|>>)? *\t(.*)$")


def look(sessions):
    """Return what looks at what pdb says at first and to each command, as far
    as it is the same in both languages."""
    return lambda subject, place: [
        reply for script, arguments in sessions[subject.language.name]
        for reply in run(subject, place, script, arguments)]


def run(subject, place, script, arguments):
    """Return [(command, reply), ...]."""
    commands = re.sub(r"<(.*)>", lambda text: str(subject.line_of(text[1])),
                      script.replace("{}", subject.module.name))
    text = subject.run(place / "log", "-m", "pdb", subject.script.name,
                       *arguments, text=f"{commands}quit\n", statuses=(0, 1))
    return list(zip(["start", *script.splitlines()],
                    (show(subject, reply) for reply in text.split("(Pdb) "))))


def show(subject, reply):
    """Return a reply with places as both languages have them, and without the
    text of the lines where it is theirs."""
    lines = reply.replace(f"{subject.folder}/", "").rstrip().splitlines()
    shown = []
    source = []         # of the file of the last place
    number = 0
    for line in lines:
        entry = ENTRY.match(line)
        if entry or line.startswith("    "):
            # Of a traceback: this line, and the text and carets below it.
            place = entry and subject.place(entry[1], int(entry[2]))
            if place:
                name = entry[3].rpartition(".")[2]
                shown.append("%s:%d %s" % (*place, name))
            continue
        place = PLACE.match(line)
        listed = LISTED.match(line)
        if place:
            mark, path, number, function, rest = place.groups()
            number = int(number)
            source = text_of(subject, path)
            found = (subject.place(path, number)
                     or subject.start(path, number) or (Path(path).stem, 0))
            # Cython's own traceback entries have the module in the name.
            line = "%s%s:%d %s%s" % (mark, *found, function.split(".")[-1],
                                     rest)
        elif line.startswith("-> "):
            line = same_text(line[3:], source, number) or line
        elif listed:
            row, breakpoint, mark, text = listed.groups()
            line = f"{row} {breakpoint}{mark or ''} " + (
                same_text(text, source, int(row)) or text)
        elif line.startswith("*** Jump failed: "):
            line = "*** Jump failed"
        else:
            line = re.sub(rf"\b{subject.module.name}:(\d+)",
                          lambda found: "%s:%d" % subject.place(
                              subject.module, int(found[1])), line)
        shown.append(line)
    return shown


def text_of(subject, path):
    file = subject.folder / path
    return file.read_text().splitlines() if file.is_file() else []


def same_text(text, source, number):
    """Return a mark if a text is that of a line."""
    if source[number - 1:] and source[number - 1].strip() == text.strip():
        return "the line"
    return None
