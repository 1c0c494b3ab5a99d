"""Tests of what is made of the findings in Cython."""

import unittest

from prove import clients_checked, clients_twins


class CompareTest(unittest.TestCase):

    def setUp(self):
        self.findings = [
            {"rule": rule, "message": f"the {message} and more",
             "place": {"line": clients_twins.line_of(text)}}
            for rule, text, message in clients_checked.CYTHON_FINDINGS]

    def test_all(self):
        self.assertIsNone(clients_checked.compare(self.findings))

    def test_missing(self):
        for i, (rule, text, _) in enumerate(clients_checked.CYTHON_FINDINGS):
            for name, value in (("rule", "other"), ("message", "other"),
                                ("place", {"line": 1})):
                other = [*self.findings]
                other[i] = {**other[i], name: value}
                with self.subTest(rule=rule, changed=name):
                    self.assertIn(f"[{rule}]", clients_checked.compare(other))


if __name__ == "__main__":
    unittest.main()
