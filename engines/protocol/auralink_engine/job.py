"""One run as its process sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class Lost(Exception):
    """A gateway cannot be reached or has refused this attempt: another attempt may do better, the run has not failed."""


class Emit(Protocol):
    """Sends an event of the run. A transient event may be dropped when nobody follows."""

    def __call__(self, kind: str, /, **data: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is given: a definition, an input, two addresses and a token for them. Nothing else is reachable.

    `accepted_at` is the clock that prompts and templates see, so that every attempt asks the same questions; `deadline`
    (seconds since the epoch) is real time, for timeouts.
    """

    run: str
    attempt: int
    definition: Mapping[str, Any]
    input: Any
    mcp_url: str
    llm_url: str
    token: str = field(repr=False)
    accepted_at: datetime
    deadline: float
    memory_mb: int
    origin: str = ""
    """The first run of its line: of a resumed, forked or replayed run the one it comes from, so that all ask the same questions."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Job":
        """The job of a `start` message."""
        return cls(
            run=message["run"],
            attempt=message["attempt"],
            definition=message["definition"],
            input=message["input"],
            mcp_url=message["mcp_url"],
            llm_url=message["llm_url"],
            token=message["token"],
            accepted_at=datetime.fromisoformat(message["accepted_at"]),
            deadline=float(message["deadline"]),
            memory_mb=int(message["memory_mb"]),
            origin=message.get("origin") or message["run"],
        )
