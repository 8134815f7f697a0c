"""Runs: one execution of a definition, from acceptance to its one end."""
