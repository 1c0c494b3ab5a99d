"""The rooms: the folders beside CPython's own, each with its commands.

A room is a package with a module commands, in which COMMANDS has a function
for each target of make that the room adds. The package's docstring heads them
in what make help prints, where each is its docstring's first line.
"""

from importlib import import_module

QUEUE = __package__     # the room that the others know


def rooms(root):
    """Return the names of the rooms, the patch queue's first."""
    return sorted((path.parent.name for path in root.glob("*/commands.py")),
                  key=lambda room: (room != QUEUE, room))


def commands_of(room):
    """Return {target: function} of one room."""
    return import_module(f"{room}.commands").COMMANDS


def all_commands(root):
    """Return {target: function} of all rooms."""
    return {target: function for room in rooms(root)
            for target, function in commands_of(room).items()}


def help_text(root):
    """Return what there is to do, room by room."""
    text = ""
    for room in rooms(root):
        text += f"{room}/: {import_module(room).__doc__.strip()}\n\n"
        for target, function in commands_of(room).items():
            line = function.__doc__.splitlines()[0]
            text += f"  make {target:<19} {line}\n"
        text += "\n"
    return text
