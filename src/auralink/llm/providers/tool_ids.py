"""The ids of tool calls. A conversation may be continued with another provider than the one it began with, and each has its own
idea of an id; a thought signature of Gemini's travels in the id, because clients keep ids and drop what they do not know."""

import hashlib
import re
from dataclasses import dataclass

SIGNATURE = "~"
"""Stands between the id and the signature."""


@dataclass(frozen=True, slots=True)
class ToolIds:
    """The ids that a provider takes: those that match, and for the others a digest after a prefix."""

    allowed: re.Pattern[str]
    prefix: str
    digits: int

    def fitted(self, call_id: str) -> str:
        """The id as the provider takes it; the same id always gives the same."""
        if self.allowed.fullmatch(call_id):
            return call_id
        return self.prefix + hashlib.sha256(call_id.encode()).hexdigest()[: self.digits]


OPENAI_IDS = ToolIds(re.compile(r"[^~]{1,40}"), "call_", 24)
MISTRAL_IDS = ToolIds(re.compile(r"[A-Za-z0-9]{9}"), "", 9)
ANTHROPIC_IDS = ToolIds(re.compile(r"[A-Za-z0-9_-]{1,64}"), "toolu_", 24)


def signed(call_id: str, signature: str | None) -> str:
    """The id with a thought signature in it."""
    return f"{call_id}{SIGNATURE}{signature}" if signature else call_id


def unsigned(call_id: str) -> tuple[str, str | None]:
    """The id and the signature in it."""
    plain, _, signature = call_id.partition(SIGNATURE)
    return plain, signature or None
