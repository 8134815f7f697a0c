"""Gemini's answers, whole or in pieces: both are the same object, so that one reading serves both.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from auralink.core.ids import uuid7
from auralink.llm.providers.completions import tool_call
from auralink.llm.providers.protocol import Body, Usage
from auralink.llm.providers.tool_ids import signed

FILTERED = "content_filter"
FINISH_REASONS: Mapping[str, str] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
        ),
        FILTERED,
    ),
}  # fmt: skip
"""The other reasons say that the model has failed (a malformed call, a tool that is not there): no answer of any kind."""


class ModelFailed(ValueError):
    """Gemini ended an answer because it could not go on."""


class CandidateReader:
    """Reads the pieces of one candidate. A delta has the form of a chunk's, and a whole answer is one piece."""

    def __init__(self) -> None:
        self._calls = 0

    def delta(self, candidate: Mapping[str, Any]) -> Body:
        """What a piece adds: `content`, `reasoning_content`, `tool_calls` with their index, `extra_content`."""
        content, reasoning = [], []
        calls: list[Body] = []
        signature: str | None = None
        for part in _parts(candidate):
            if "functionCall" in part:
                calls.append(self._call(part))
            elif part.get("thought"):
                reasoning.append(part.get("text", ""))
            elif "text" in part:
                content.append(part["text"])
                signature = part.get("thoughtSignature") or signature
        delta: Body = {"content": "".join(content), "reasoning_content": "".join(reasoning), "tool_calls": calls}
        said = {name: value for name, value in delta.items() if value}
        return said | ({"extra_content": _extra(signature)} if signature else {})

    def finish_reason(self, candidate: Mapping[str, Any]) -> str | None:
        """Why the candidate ends with this piece; None if it goes on.

        Raises:
            ModelFailed: it ends without being an answer.
        """
        reason = candidate.get("finishReason")
        if reason is None:
            return None
        if reason not in FINISH_REASONS:
            raise ModelFailed(f"Gemini ended the answer with {reason}: {candidate.get('finishMessage') or 'no explanation'}")
        finish_reason = FINISH_REASONS[reason]
        return "tool_calls" if finish_reason == "stop" and self._calls else finish_reason

    def _call(self, part: Mapping[str, Any]) -> Body:
        function, signature = part["functionCall"], part.get("thoughtSignature")
        call_id = signed(str(function.get("id") or f"call_{uuid7().hex}"), signature)
        arguments = orjson.dumps(function.get("args") or {}).decode()
        call = tool_call(call_id, str(function.get("name")), arguments, _extra(signature) if signature else None)
        self._calls += 1
        return {"index": self._calls - 1, **call}


def explanation(candidate: Mapping[str, Any]) -> str:
    """Why an answer was filtered."""
    return f"Gemini ended the answer: {candidate.get('finishMessage') or candidate.get('finishReason')}"


def block_reason(answer: Mapping[str, Any]) -> str | None:
    """Why the prompt was blocked, if it was; there are no candidates then."""
    feedback = answer.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, Mapping) else None
    return f"Gemini blocked the prompt: {reason}" if reason else None


def logprobs_of(candidate: Mapping[str, Any]) -> Body | None:
    """The log probabilities of a piece in OpenAI's form; None if there are none."""
    result = candidate.get("logprobsResult")
    if not isinstance(result, Mapping):
        return None
    chosen = result.get("chosenCandidates") or []
    others = result.get("topCandidates") or [{}] * len(chosen)
    return {
        "content": [
            _logprob(token) | {"top_logprobs": [_logprob(other) for other in top.get("candidates") or ()]}
            for token, top in zip(chosen, others, strict=False)
        ],
        "refusal": None,
    }


def read_usage(reported: object) -> Usage:
    """The usage so far. Gemini counts thoughts beside the answer and tools' prompts beside the prompt; here each is a part."""
    if not isinstance(reported, Mapping):
        return Usage(exact=False)
    counts = {name: value for name, value in reported.items() if isinstance(value, int)}
    reasoning = counts.get("thoughtsTokenCount", 0)
    return Usage(
        prompt=counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0),
        completion=counts.get("candidatesTokenCount", 0) + reasoning,
        cached=counts.get("cachedContentTokenCount", 0),
        reasoning=reasoning,
    )


def _parts(candidate: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    content = candidate.get("content")
    return (content.get("parts") or ()) if isinstance(content, Mapping) else ()


def _extra(signature: str) -> Body:
    return {"google": {"thought_signature": signature}}


def _logprob(token: Mapping[str, Any]) -> Body:
    text = str(token.get("token", ""))
    return {"token": text, "logprob": token.get("logProbability", 0.0), "bytes": list(text.encode())}
