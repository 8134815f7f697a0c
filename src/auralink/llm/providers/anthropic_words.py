"""What a whole answer of Anthropic's and a streamed one have in common: how they end, what they cost and what they thought."""

from collections.abc import Mapping, Sequence
from typing import Any

from auralink.llm.providers.anthropic_turns import THINKING
from auralink.llm.providers.protocol import Body, Usage

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_usage(reported: object, known: Usage) -> Usage:
    """The usage in a report, over what was known before: a streamed answer reports it piece by piece, each number in full.

    Anthropic counts the prompt in three parts (read from the cache, written to it, and the rest); here they are added up.
    """
    if not isinstance(reported, Mapping):
        return known
    cached = _count(reported, "cache_read_input_tokens", known.cached)
    written = _count(reported, "cache_creation_input_tokens", known.cache_written)
    rest = _count(reported, "input_tokens", known.prompt - known.cached - known.cache_written)
    return Usage(
        prompt=rest + cached + written,
        completion=_count(reported, "output_tokens", known.completion),
        cached=cached,
        cache_written=written,
        reasoning=_count(reported.get("output_tokens_details"), "thinking_tokens", known.reasoning),
        exact=known.exact,
    )


def extra_of(thoughts: Sequence[Mapping[str, Any]], model: str) -> Body | None:
    """`extra_content` with the blocks that have to come back unchanged, and the model that alone can read them."""
    return {"anthropic": {"model": model, THINKING: list(thoughts)}} if thoughts else None


def _count(reported: object, name: str, known: int) -> int:
    value = reported.get(name) if isinstance(reported, Mapping) else None
    return value if isinstance(value, int) else known
