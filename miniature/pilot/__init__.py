"""Which method for one's own model and data: a short comparison at equal budget, by successive halving."""
