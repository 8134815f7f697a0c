"""How the command line prints tables."""

import sys

from rich.console import Console
from rich.table import Table

WIDE = 1000
"""Columns of a pipe, which has none: nothing is cut."""


def show(table: Table) -> None:
    """Prints a table: on a terminal as wide as that is, else as wide as its content."""
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)
