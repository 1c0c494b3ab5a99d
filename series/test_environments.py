"""Tests of environments with packages, with interpreters that are scripts."""

from series.environments import make_environment
from series.fixture import FixtureCase, write

# python -m venv --clear DIRECTORY; what it makes is another script.
VENV = """#!/bin/sh
echo venv >> {runs}
mkdir -p "$4/bin"
printf '#!/bin/sh\\necho "$@" >> {runs}; exit {status}\\n' > "$4/bin/python"
chmod +x "$4/bin/python"
"""


class EnvironmentTest(FixtureCase):
    def setUp(self):
        super().setUp()
        self.log = self.build / "logs/install.log"

    def python(self, text):
        """Return a script that is an interpreter."""
        path = self.top / f"python{len(list(self.top.glob('python*')))}"
        write(path, text.encode())
        path.chmod(0o755)
        return path

    def make(self, *pythons, packages=("one", "two")):
        return make_environment(self.build / "venv", pythons, self.log,
                                *packages)

    def runs(self):
        return (self.top / "runs").read_text().splitlines()

    def venv(self, status=0):
        return self.python(VENV.format(runs=self.top / "runs", status=status))

    def test_made_once(self):
        broken, good = self.python("#!/bin/sh\nexit 1\n"), self.venv()
        for _ in range(2):
            self.assertEqual(self.make(broken, good, good),
                             self.build / "venv/bin/python")
        self.assertEqual(self.runs(), [
            "venv", "-m pip install --quiet --disable-pip-version-check "
            "--retries 1 one two"])

    def test_other_packages(self):
        good = self.venv()
        self.make(good)
        self.make(good, packages=("three",))
        self.assertEqual(len(self.runs()), 4)

    def test_no_python(self):
        self.assertIsNone(self.make())
        self.assertIsNone(self.make(self.python("#!/bin/sh\necho why\n"
                                                "exit 1\n")))
        self.assertEqual(self.log.read_text(), "why\n")

    def test_no_package_index_is_asked_again(self):
        bad = self.venv(status=1)
        for _ in range(2):
            self.assertIsNone(self.make(bad))
        self.assertEqual(len(self.runs()), 4)
