"""What proves the series: tests, comparison, faults, sanitizers, clients."""
