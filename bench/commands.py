"""The commands that measure the series."""

from bench import bench
from series import builder
from series.workspace import ROOT, build_folder, prepare


def measure():
    """Measure instructions, times and bytes beside stock."""
    builder.check_prerequisites("valgrind")
    bench.measure(*prepare())


def measure_quick():
    """Check the goals that counting ours alone decides."""
    builder.check_prerequisites("valgrind")
    bench.measure_quick(prepare()[-1])


def write_readme():
    """Put the figures of make bench into bench/README.md and README.md."""
    bench.TABLE.write(ROOT, build_folder())
    bench.SUMMARY.write(ROOT, build_folder())


COMMANDS = {
    "bench": measure,
    "bench-quick": measure_quick,
    "bench-readme": write_readme,
}
