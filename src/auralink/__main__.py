"""`python -m auralink`: the command line."""

from auralink.cli import main

main()
