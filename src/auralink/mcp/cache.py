"""Answers of read-only tools, reused for a while (P-CACHE).

The key holds all that determines an answer: user, connection, version of its credential, the tool's definition, arguments; so
no answer crosses a user, a credential or a schema. A call that may write drops everything that is kept for its connection.
What an upstream says of sharing is not believed. Built-in servers are not cached: they are as fast as the cache and always right.
"""

import hashlib
import itertools
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from auralink.core.telemetry import mcp_cache_hits
from auralink.mcp.schemas import ConnectionRecord

MAX_BYTES = 16 * 1024 * 1024
MAX_ENTRY_BYTES = 256 * 1024
REMEMBERED = 10_000
"""Connections whose last write is remembered; forgetting one ends what is kept for all that are not."""
NO_CACHE_META = "auralink/noCache"
NEVER_SHARED = ("inputResponses", "requestState")
Params = Mapping[str, Any]


def is_read_only(definition: Params) -> bool:
    """Whether a tool declares that it changes nothing."""
    return (definition.get("annotations") or {}).get("readOnlyHint") is True


class ResponseCache:
    """Results by key, the least recently used dropped first."""

    def __init__(self, ttl: float) -> None:
        """`ttl` is in seconds; 0 switches the cache off."""
        self._ttl = ttl
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self._counter = itertools.count(1)
        self._forgotten = 0
        self._generations: OrderedDict[UUID, int] = OrderedDict()

    def key(self, record: ConnectionRecord, definition: Params, params: Params) -> bytes | None:
        """The key of a call; None if its answer may not be reused. A call that may write ends what is kept for its connection."""
        if not is_read_only(definition):
            self._connection_written(record.id)
            return None
        skip = (params.get("_meta") or {}).get(NO_CACHE_META) or any(name in params for name in NEVER_SHARED)
        if self._ttl <= 0 or record.server.transport == "in_process" or skip:
            return None
        generation = self._generations.get(record.id, self._forgotten)
        covered = [record.user_id, record.id, record.credential_version, generation, definition, params["arguments"]]
        try:
            return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).digest()
        except TypeError:  # integers beyond 64 bits and deep nesting have no canonical form here; such calls are not cached
            return None

    def get(self, key: bytes | None, server: str) -> dict[str, Any] | None:
        """The kept answer, a copy of its own for each caller."""
        entry = self._entries.get(key) if key is not None else None
        if key is None or entry is None:
            return None
        if entry[0] <= time.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        mcp_cache_hits.labels(server).inc()
        result: dict[str, Any] = orjson.loads(entry[1])
        return result

    def put(self, key: bytes | None, record: ConnectionRecord, definition: Params, result: Params) -> None:
        """Keeps an answer; never an error, never a question. What was read while a call wrote is dropped once more."""
        if not is_read_only(definition):
            self._connection_written(record.id)
        if key is None or result.get("isError") or result.get("resultType", "complete") != "complete":
            return
        body = orjson.dumps(result)
        if len(body) > MAX_ENTRY_BYTES:
            return
        self._drop(key)
        self._entries[key] = (time.monotonic() + self._ttl, body)
        self._bytes += len(body)
        while self._bytes > MAX_BYTES:
            self._drop(next(iter(self._entries)))

    def _connection_written(self, connection_id: UUID) -> None:
        if self._ttl <= 0:
            return
        self._generations[connection_id] = next(self._counter)
        if len(self._generations) > REMEMBERED:
            self._generations.popitem(last=False)
            self._forgotten = next(self._counter)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[1])
