"""Which models there are, what they can do and what they cost. Whether one may be used (keys, budgets) is decided elsewhere."""
