"""Gemini's event stream (`streamGenerateContent?alt=sse`) as chunks of the OpenAI kind. It has no event for its end: it is over when
every candidate has said why it ends."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from auralink.llm.providers.completions import ChunkWriter
from auralink.llm.providers.failures import failure, json_of
from auralink.llm.providers.google_candidates import (
    FILTERED,
    CandidateReader,
    ModelFailed,
    block_reason,
    explanation,
    logprobs_of,
    read_usage,
)
from auralink.llm.providers.google_errors import error_in, failure_of
from auralink.llm.providers.protocol import Body, StreamFailed, Target, Usage


class GoogleStream:
    """One answer as it comes."""

    def __init__(self, target: Target, *, report_usage: bool) -> None:
        self._report_usage = report_usage
        self._chunks = ChunkWriter(target.model)
        self._candidates: dict[int, CandidateReader] = {}
        self._open: set[int] = set()
        self._finished = False
        self.usage = Usage(exact=False)

    @property
    def finished(self) -> bool:
        """Whether every candidate has ended, or the prompt was blocked."""
        return self._finished

    def feed(self, event: str, data: str) -> Iterable[Body]:
        """The chunks for one piece of the answer.

        Raises:
            StreamFailed: an error, an answer that the model could not finish, or something that is no JSON.
        """
        body = json_of(data.encode())
        if not isinstance(body, dict):
            raise StreamFailed(failure("server_error", f"an event that is no JSON: {data}", {}))
        if error := error_in(body):
            raise StreamFailed(failure_of(error, 500, {}))
        self._chunks.named(body.get("responseId"))
        if "usageMetadata" in body:
            self.usage = replace(read_usage(body["usageMetadata"]), exact=self._finished)
        try:
            return list(self._read(body))
        except ModelFailed as failed:
            raise StreamFailed(failure("server_error", str(failed), {})) from failed

    def _read(self, body: Mapping[str, Any]) -> Iterator[Body]:
        if reason := block_reason(body):
            yield self._chunks.delta({"role": "assistant", "content": None, "refusal": reason}, finish_reason=FILTERED)
            yield from self._end()
            return
        for candidate in body.get("candidates") or ():
            yield from self._candidate(int(candidate.get("index", 0)), candidate)
        if self._candidates and not self._open and not self._finished:
            yield from self._end()

    def _candidate(self, index: int, candidate: Mapping[str, Any]) -> Iterator[Body]:
        if index not in self._candidates:
            self._candidates[index] = CandidateReader()
            self._open.add(index)
            yield self._chunks.delta({"role": "assistant", "content": ""}, index=index)
        reader = self._candidates[index]
        delta, logprobs = reader.delta(candidate), logprobs_of(candidate)
        finish_reason = reader.finish_reason(candidate)
        if delta or logprobs:
            yield self._chunks.delta(delta, index=index, logprobs=logprobs)
        if finish_reason:
            self._open.discard(index)
            last: Body = {"refusal": explanation(candidate)} if finish_reason == FILTERED else {}
            yield self._chunks.delta(last, index=index, finish_reason=finish_reason)

    def _end(self) -> Iterator[Body]:
        self._finished = True
        self.usage.exact = True
        if self._report_usage:
            yield self._chunks.usage(self.usage)
