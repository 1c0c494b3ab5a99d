"""What measures the series."""
