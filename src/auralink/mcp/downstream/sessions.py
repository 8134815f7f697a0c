"""What a process remembers of a handshake-era session besides what its signed id says: the log level, the resources that it has
subscribed to, and whether it has ended. All of it is bounded, and a process that does not know it does without."""

from collections import OrderedDict
from dataclasses import dataclass, field

from auralink.mcp.downstream.hearing import Hearing

MAX_REMEMBERED = 10_000
MAX_ENDED = 100_000


@dataclass(slots=True)
class Memory:
    """One session's."""

    log_level: str | None = None
    subscribed: dict[str, None] = field(default_factory=dict)
    hearings: list[Hearing] = field(default_factory=list)


class Sessions:
    """By session key; the one that was changed longest ago makes room."""

    def __init__(self) -> None:
        self._memories: OrderedDict[str, Memory] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def find(self, key: str) -> Memory | None:
        """What is remembered, if anything."""
        return self._memories.get(key)

    def remember(self, key: str) -> Memory:
        """What is remembered, to be changed."""
        memory = self._memories.setdefault(key, Memory())
        self._memories.move_to_end(key)
        if len(self._memories) > MAX_REMEMBERED:
            self._memories.popitem(last=False)
        return memory

    def end(self, key: str) -> None:
        """The session is over: its id is no longer taken here."""
        self._memories.pop(key, None)
        self._ended[key] = None
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def has_ended(self, key: str) -> bool:
        """Whether the session is over."""
        return key in self._ended
