"""The key of a call: SHA-256 over the canonical JSON of what determines its answer, and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import orjson

Kind = Literal["llm", "tool", "list", "approval", "run"]

WITHOUT_EFFECT = frozenset(
    {"stream", "stream_options", "user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    | {"service_tier", "extra_headers", "extra_query", "timeout"}
)
"""What a model request may say that does not change the answer: how it is delivered, billed and filed."""


def key_of(kind: Kind, request: Mapping[str, Any]) -> bytes:
    """The key of a call of this kind. Members of a model request that have no effect on the answer are left out."""
    counted = {name: value for name, value in request.items() if kind != "llm" or name not in WITHOUT_EFFECT}
    return hashlib.sha256(canonical([kind, counted])).digest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys. What orjson has no form for (integers beyond 64 bits, deep nesting, half a surrogate pair) the
    standard library has."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()


def label_of(kind: Kind, request: Mapping[str, Any]) -> str:
    """The call's name for people: the model, the tool, the method."""
    if kind == "tool":
        return f"{request.get('connection', '')}__{request.get('tool', '')}"
    return str(request.get("model") or request.get("method") or request.get("tool") or kind)
