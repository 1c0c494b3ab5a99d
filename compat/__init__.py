"""The header for unpatched interpreters, and what tests it."""
