"""Tests of what is made of the findings in Cython."""

import unittest

from prove.clients import checked, programs


class FirstMissingTest(unittest.TestCase):

    def setUp(self):
        self.language = programs.Cython()
        self.findings = [
            {"rule": rule, "message": f"the {message} and more",
             "place": {"line": self.language.line_of(text)}}
            for rule, text, message in checked.CYTHON_FINDINGS]

    def test_all(self):
        self.assertIsNone(checked.first_missing(self.language, self.findings))

    def test_missing(self):
        for i, (rule, _, _) in enumerate(checked.CYTHON_FINDINGS):
            for name, value in (("rule", "other"), ("message", "other"),
                                ("place", {"line": 1})):
                other = [*self.findings]
                other[i] = {**other[i], name: value}
                with self.subTest(rule=rule, changed=name):
                    self.assertIn(f"[{rule}]", checked.first_missing(
                        self.language, other))


if __name__ == "__main__":
    unittest.main()
