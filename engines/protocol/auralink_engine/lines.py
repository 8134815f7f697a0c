"""Whole JSON lines over non-blocking file descriptors, bounded in size."""

import json
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

MAX_LINE = 8 * 1024 * 1024
CHUNK = 64 * 1024


class LineTooLong(Exception):
    """A line is longer than MAX_LINE: whoever writes it is broken."""


def encode(message: dict[str, Any]) -> bytes:
    """A message as one line. What JSON has no form for becomes its text; a lone surrogate becomes a question mark.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


class LineReader:
    """Takes what a descriptor has and gives the whole lines of it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        self.dry = False
        self._partial = bytearray()

    def read(self) -> Iterator[bytes]:
        """The lines that became whole; sets `dry` when there was nothing and `ended` at the end. Raises LineTooLong."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            self.dry = True
            return
        self.dry = False
        if not data:
            self.ended = True
            return
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._partial += line
            yield bytes(self._partial)
            self._partial.clear()
        self._partial += rest
        if len(self._partial) > MAX_LINE:
            raise LineTooLong


class Writer:
    """Writes to a non-blocking descriptor, keeping what does not fit yet."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting = 0
        self._queue: deque[memoryview] = deque()

    def add(self, data: bytes) -> None:
        """Queues bytes; `flush` sends them."""
        self._queue.append(memoryview(data))
        self.waiting += len(data)

    def flush(self) -> None:
        """Sends what the descriptor takes. Raises OSError when nobody reads any more."""
        while self._queue:
            try:
                sent = os.write(self.fd, self._queue[0])
            except BlockingIOError:
                return
            self.waiting -= sent
            if sent == len(self._queue[0]):
                self._queue.popleft()
            else:
                self._queue[0] = self._queue[0][sent:]


class Tail:
    """The last lines of a stream of text."""

    LINES = 40
    BYTES = 8 * 1024

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        self._bytes = b""

    def read(self) -> None:
        """Takes what there is."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return
        self.ended = not data
        self._bytes = (self._bytes + data)[-self.BYTES :]

    def lines(self) -> list[str]:
        """The lines so far, oldest first."""
        return self._bytes.decode("utf-8", "replace").splitlines()[-self.LINES :]
