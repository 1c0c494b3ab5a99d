"""What the series is, and what finds, applies, builds, checks and exports it.

CPYTHON=PATH names a CPython source directory or archive to start from.
"""
