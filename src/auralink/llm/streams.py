"""An answer under way: the data of its events for the client, what it has used so far, and how it ends."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Self

import orjson

from auralink.core.server_events import Event
from auralink.llm.errors import ProviderError
from auralink.llm.providers.openai import DONE, OpenAIStream
from auralink.llm.providers.protocol import Body, Stream, StreamFailed, Target, Usage

LAST_WORDS = ('"finish_reason":"', '"finish_reason": "')
"""What the chunk that ends an answer says. It and what follows it are held back until the call is recorded."""


class OpenStream:
    """A stream whose first event is there."""

    def __init__(self, first: str | None, rest: AsyncGenerator[str], usage: Callable[[], Usage]) -> None:
        self._first = first
        self._rest = rest
        self._usage = usage
        self.pieces = 0
        """How many events have been read: about as many tokens as the answer has."""

    @classmethod
    async def begun(cls, events: AsyncGenerator[str], usage: Callable[[], Usage]) -> Self:
        """Waits for the first event, so that whoever fails before it can be replaced. Raises what reading raises."""
        return cls(await anext(events, None), events, usage)

    @property
    def usage(self) -> Usage:
        """What the provider has said so far about the tokens."""
        return self._usage()

    async def __aiter__(self) -> AsyncIterator[str]:
        """The data of each event, as JSON."""
        if self._first is None:
            return
        self.pieces += 1
        yield self._first
        async for data in self._rest:
            self.pieces += 1
            yield data

    async def close(self) -> None:
        """Lets go of the provider's connection."""
        await self._rest.aclose()


async def chunk_stream(chunks: Iterator[Body]) -> AsyncGenerator[str]:
    """Chunks that are all there."""
    for chunk in chunks:
        yield orjson.dumps(chunk).decode()


async def event_stream(events: AsyncIterator[Event], translator: Stream, target: Target) -> AsyncGenerator[str]:
    """A provider's events, translated; those of the OpenAI format as they came.

    Raises:
        ProviderError: the provider reports an error, or the stream ends before the answer does.
    """
    try:
        async for event in events:
            for data in _translated(event, translator):
                yield data
            if translator.finished:
                return
    except StreamFailed as error:
        failure = error.failure
        raise ProviderError(
            f"{target.provider} failed in the middle of the answer of {target.model}: {failure.message}",
            provider=target.provider,
            model=target.model,
            kind=failure.kind,
            retry_after=failure.retry_after,
        ) from error
    raise ProviderError(
        f"{target.provider} broke off in the middle of the answer of {target.model}",
        provider=target.provider,
        model=target.model,
        kind="broken_off",
    )


def is_last(data: str) -> bool:
    """Whether an event says that the answer is over."""
    return any(words in data for words in LAST_WORDS)


def _translated(event: Event, translator: Stream) -> Iterator[str]:
    data = event.data.decode("utf-8", "replace")
    if isinstance(translator, OpenAIStream):
        relayed = translator.relay(event.name, data)
        if relayed is not None and relayed != DONE:
            yield relayed
        return
    for chunk in translator.feed(event.name, data):
        yield orjson.dumps(chunk).decode()
