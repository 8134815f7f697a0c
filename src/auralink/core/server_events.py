"""Server-sent events as they come in (WHATWG HTML §9.2), over any stream of bytes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

MAX_EVENT_BYTES = 4 * 1024 * 1024
DEFAULT_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
COMMENT = b":"


class EventTooLarge(Exception):
    """One event is larger than the gateway takes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event with data."""

    name: str
    data: bytes


class EventReader:
    """Reads events, and remembers what a client needs to come back: the last id, and how long to wait before it does."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry = DEFAULT_RETRY_SECONDS
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    async def read(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
        """The events with data; comments and empty ones are left out.

        Raises:
            EventTooLarge: an event does not end within `MAX_EVENT_BYTES`.
        """
        buffer = b""
        async for chunk in chunks:
            *lines, buffer = (buffer + chunk).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                if line:
                    if not line.startswith(COMMENT):
                        self._take(line)
                elif (event := self._event()) is not None:
                    yield event
            if self._size + len(buffer) > MAX_EVENT_BYTES:
                raise EventTooLarge

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            self.last_id = value.decode(errors="replace")
        elif field == b"retry" and value.isdigit():
            self.retry = min(int(value) / 1000, MAX_RETRY_SECONDS)

    def _event(self) -> Event | None:
        if not self._data:
            self._name = ""
            return None
        event = Event(self._name, b"\n".join(self._data))
        self._name, self._size = "", 0
        self._data.clear()
        return event if event.data else None
