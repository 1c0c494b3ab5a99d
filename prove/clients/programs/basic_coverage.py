"""A plugin of coverage for files of BASIC, with which it can report them."""

from pathlib import Path

from coverage import CoveragePlugin, FileReporter, FileTracer


class Tracer(FileTracer):
    def __init__(self, path):
        self.path = path

    def source_filename(self):
        return self.path


class Reporter(FileReporter):
    def lines(self):
        return set(range(1, 1 + len(Path(self.filename).read_text()
                                    .splitlines())))


class Plugin(CoveragePlugin):
    def file_tracer(self, filename):
        return Tracer(filename) if filename.endswith(".bas") else None

    def file_reporter(self, filename):
        return Reporter(filename)


def coverage_init(reg, options):
    reg.add_file_tracer(Plugin())
