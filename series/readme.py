"""Tables in a README that the tool writes, each between two marks."""

from series.common import SeriesError, say


class Table:
    """What make TARGET measures and make TARGET-readme puts into a page."""

    end = "<!-- The end of the table. -->"

    def __init__(self, target, page="README.md"):
        self.target = target
        self.page = page
        self.start = (f"<!-- The table of make {target}: "
                      f"make {target}-readme writes it. -->")

    def file(self, build):
        """Return where the table is kept that was measured last."""
        return build / f"{self.target}.md"

    def keep(self, build, fragment):
        """Keep a table that was measured."""
        self.file(build).write_text(fragment, encoding="utf-8")
        say("table", str(self.file(build)))

    def split(self, readme):
        """Return the README up to the table, the table, what follows it."""
        before, start, rest = readme.read_text(
            encoding="utf-8").partition(self.start)
        table, end, after = rest.partition(self.end)
        if not start or not end:
            raise SeriesError(f"{readme.name}: lacks the line '{self.start}', "
                              f"or '{self.end}' below it")
        return before + start, table, end + after

    def write(self, root, build):
        """Put the table that was measured last into its page."""
        if not self.file(build).is_file():
            raise SeriesError(f"{self.file(build)}: does not exist, "
                              f"make {self.target} writes it")
        self.put(root, self.file(build).read_text(encoding="utf-8"))
        say("table", f"{self.page}, from {self.file(build)}")

    def put(self, root, fragment):
        """Put a table into its page."""
        readme = root / self.page
        before, _, after = self.split(readme)
        readme.write_text(f"{before}\n\n{fragment}\n{after}",
                          encoding="utf-8")
