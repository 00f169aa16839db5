"""Around a run of either kind: checks before it, its parts and their ends, its console, its files."""
