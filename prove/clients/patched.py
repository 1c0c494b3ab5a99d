"""Run a client as it would be with a small patch: python patched.py CLIENT ...

What the patches are for is in README.md.  It is run by the Python that the
client is installed for, with the client's own arguments after its name.
"""

from pathlib import Path
import re
import runpy
import sys


def trace(*arguments):
    """trace.py, which takes no file that it cannot parse for Python."""
    import trace
    find = trace._find_executable_linenos

    def find_or_not(path):
        try:
            return find(path)
        except SyntaxError:
            return {}

    trace._find_executable_linenos = find_or_not
    sys.argv[1:] = arguments
    trace.main()


def coverage(*arguments):
    """coverage, which asks its plugins for each file that it reports."""
    from coverage.control import Coverage
    get_reporter = Coverage._get_file_reporter

    def ask_plugins(self, morf):
        for plugin in self._plugins.file_tracers:
            if isinstance(morf, str) and plugin.file_tracer(morf):
                return plugin.file_reporter(morf)
        return get_reporter(self, morf)

    Coverage._get_file_reporter = ask_plugins
    sys.argv[1:] = arguments
    runpy.run_module("coverage", run_name="__main__")


def cython(source):
    """Cython, which gives each event the offset of its location."""
    from Cython.Compiler import Nodes, ParseTreeTransforms
    from Cython.Compiler.Main import compile
    for transform in vars(ParseTreeTransforms).values():
        if "_build_positions" in getattr(transform, "__dict__", ()):
            amend_positions(transform, Nodes.GeneratorBodyDefNode)
    result = compile(source)
    path = Path(result.c_file)
    text, count = amend_events(path.read_text())
    if 0 in count:
        sys.exit(f"the patch changes {count} places")
    path.write_text(text)


def amend_positions(transform, generator_body):
    """Count offsets as bytecode does, and keep those of a generator's body
    with the function that makes the generator."""
    build = transform._build_positions

    def build_positions(self, node):
        if isinstance(node, generator_body):
            self.positions[-2] |= self.positions[-1]
        build(self, node)
        offsets = node.local_scope.node_positions_to_offset
        node.local_scope.node_positions_to_offset = {
            position: 2 * number for position, number in offsets.items()}

    transform._build_positions = build_positions


def amend_events(text):
    """Fire PY_YIELD with the state for it, and RAISE with the offset of the
    last line instead of its number."""
    counts = []
    for pattern, replacement in (
            (r"(FirePyYieldEvent\(&\w+\[__Pyx_Monitoring_)PY_RETURN",
             r"\1PY_YIELD"),
            (r"(#define __Pyx_TraceDeclarations(?:Func|Gen)\b)(?=.*\\\n)",
             r"\1 int __pyx_offset = 0; (void)__pyx_offset;"),
            (r"__Pyx_TraceLine\((\d+),(\d+),",
             r"__pyx_offset = \2; __Pyx_TraceLine(\1,\2,"),
            (r"__Pyx_TraceException\(__pyx_lineno, 0, 0\)",
             "__Pyx_TraceException(__pyx_offset, 0, 0)")):
        text, count = re.subn(pattern, replacement, text)
        counts.append(count)
    return text, counts


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
