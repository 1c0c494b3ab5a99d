"""What the series is, and what finds, applies, builds, checks and exports it.
"""
