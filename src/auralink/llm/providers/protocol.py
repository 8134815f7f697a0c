"""What a wire format has to say: how a chat completion of the OpenAI kind becomes its request, and its answer one of ours.

Bodies and chunks are plain dicts of the OpenAI chat completions API (https://platform.openai.com/docs/api-reference/chat). A
provider is pure: the gateway makes the call, counts, retries and bills.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from auralink.core.secret import Secret

Body = dict[str, Any]
ErrorKind = Literal[
    "invalid_request", "unauthorized", "not_found", "rate_limited", "overloaded", "context_length", "server_error"
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: a provider's address and key, and the model by the provider's own name."""

    provider: str
    model: str
    base_url: str
    key: Secret | None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent. Only the gateway puts it on a socket; the headers hold the key."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(slots=True)
class Usage:
    """Tokens of one call, as billed. `cached` is the part of `prompt` read from the provider's cache, `cache_written` the part
    written to it, `reasoning` the part of `completion` that was thought and not said."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0
    exact: bool = True
    """Whether the provider said so; False: counted here, because the answer broke off."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider's error, read."""

    kind: ErrorKind
    message: str
    retry_after: float | None = None


class Stream(Protocol):
    """Translates one event stream. It is fed server-sent events and gives chunks of the OpenAI kind."""

    usage: Usage
    """What is known of the usage so far."""

    def feed(self, event: str, data: str) -> Iterable[Body]:
        """The chunks for one event (`event` may be empty). Raises `StreamFailed` for an error event."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the provider has said that the answer is complete; a stream that ends before has broken off."""
        ...


class StreamFailed(Exception):
    """The provider reports an error in the middle of a stream."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Provider(Protocol):
    """A wire format."""

    def request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The request for a chat completion body (validated; `model` replaced by the target's). A stream is asked to report usage.

        Raises:
            UnsupportedField: the wire format cannot honour a field of the body.
        """
        ...

    def response(self, answer: Mapping[str, Any], target: Target) -> tuple[Body, Usage]:
        """The chat completion in a JSON answer, and what it used. `model` is the target's name. Raises ValueError if it is none."""
        ...

    def stream(self, target: Target, *, report_usage: bool) -> Stream:
        """A translator for one event stream; `report_usage`: the client wants a last chunk with `usage`."""
        ...

    def embeddings_request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The request for an embeddings body of the OpenAI kind, whose answer is of that kind as well. Raises `UnsupportedField`."""
        ...

    def models_request(self, target: Target) -> HttpRequest:
        """A GET request for the provider's list of models, which only a good key gets."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """What an answer with an error status says."""
        ...
