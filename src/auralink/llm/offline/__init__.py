"""What answers where no language model is configured: a program with fixed rules behind a model's interface.

It understands nothing. It picks tools by the words that a request shares with their names and descriptions, fills their arguments from
the request, and puts its answers together out of sentences that are there. It says so in the first line of every answer that people
read. Reference: docs/reference/offline-model.md.
"""

from auralink.llm.offline.model import complete

__all__ = ["complete"]
