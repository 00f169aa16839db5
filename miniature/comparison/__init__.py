"""Every method side by side on the embedded example: runs, measurements, one report."""
