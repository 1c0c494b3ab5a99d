"""What the series is, and what finds, applies, builds, checks and exports it.

BASE=VERSION chooses another base than the first one of series/series.json.
CPYTHON=PATH names a CPython source directory or archive to start from.
"""
