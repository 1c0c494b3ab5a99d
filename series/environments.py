"""Virtual environments with packages from the package index."""

from series.common import say, status_of


def make_environment(place, pythons, log, *packages):
    """Return the Python of an environment that has packages, or None if no
    package index gives them; the log says why.

    The first of the pythons that can makes it. packages are arguments of pip
    install; it is made anew where they were others.
    """
    installed = place / ".installed"
    tool = place.resolve() / "bin/python"
    wanted = " ".join(map(str, packages))
    if installed.is_file() and installed.read_text() == wanted:
        return tool
    say("install", wanted)
    log.parent.mkdir(parents=True, exist_ok=True)
    if (all(status_of([python, "-m", "venv", "--clear", place], log)
            for python in pythons)
            or status_of([tool, "-m", "pip", "install", "--quiet",
                          "--disable-pip-version-check", "--retries", "1",
                          *packages], log)):
        return None
    installed.write_text(wanted)
    return tool
