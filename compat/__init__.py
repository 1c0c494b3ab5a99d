"""The header for unpatched interpreters, and what tests it.

PYTHONS='PATH ...' names interpreters to test it on besides those found.
"""
