"""Tables that the tool writes into a page, each between two marks."""

from series.common import SeriesError, say


class Table:
    """What make TARGET measures and make TARGET-readme puts into a page.

    comment is how the language of the page writes one.
    """

    def __init__(self, target, page, kind="table", comment="<!-- {} -->"):
        self.target = target
        self.page = page
        self.kind = kind
        self.start = comment.format(f"The {kind} of make {target}: "
                                    f"make {target}-readme writes it.")
        self.end = comment.format(f"The end of the {kind}.")

    def file(self, build):
        """Return where the table is kept that was measured last."""
        return build / f"{self.target}-{self.kind}.md"

    def keep(self, build, fragment):
        """Keep a table that was measured."""
        self.file(build).write_text(fragment, encoding="utf-8")
        say(self.kind, str(self.file(build)))

    def split(self, page):
        """Return a page up to the table, the table, what follows it."""
        before, start, rest = page.read_text(
            encoding="utf-8").partition(self.start)
        table, end, after = rest.partition(self.end)
        if not start or not end:
            raise SeriesError(f"{self.page}: lacks the line '{self.start}', "
                              f"or '{self.end}' below it")
        return before + start, table, end + after

    def write(self, root, build):
        """Put the table that was measured last into its page."""
        if not self.file(build).is_file():
            raise SeriesError(f"{self.file(build)}: does not exist, "
                              f"make {self.target} writes it")
        self.put(root, self.file(build).read_text(encoding="utf-8"))
        say(self.kind, f"{self.page}, from {self.file(build)}")

    def put(self, root, fragment):
        """Put a table into its page."""
        page = root / self.page
        before, _, after = self.split(page)
        page.write_text(f"{before}\n\n{fragment}\n{after}", encoding="utf-8")
