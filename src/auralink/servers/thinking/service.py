"""Thinking step by step: what the tool `sequentialthinking` remembers, per user and thread.

The answers are those of the reference server; what differs is that thoughts survive the process and that a branch may have
any name (`constructor` breaks the reference).
"""

import re
from collections.abc import Sequence

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.servers.thinking import store
from auralink.servers.thinking.schemas import Progress, Thought

DEFAULT_THREAD = "default"

_INDEX = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_MAX_INDEX = 2**32 - 2


class Thinking:
    """A principal's threads of thought."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def think(self, principal: Principal, thread: str, thought: Thought, *, key: str | None = None) -> Progress:
        """Adds a thought to a thread and says where the thinking stands. The estimate is raised to the thought's own number.

        With a `key` that the thread has seen, nothing is added.
        """
        total = max(thought.total_thoughts, thought.thought_number)
        kept = thought.model_copy(update={"total_thoughts": total})
        async with self._database.tenant(principal) as connection:
            length = await store.append(connection, thread, kept, key)
            names = await store.branches(connection, thread)
        return {
            "thoughtNumber": thought.thought_number,
            "totalThoughts": total,
            "nextThoughtNeeded": thought.next_thought_needed,
            "branches": in_key_order(names),
            "thoughtHistoryLength": length,
        }

    async def history(self, principal: Principal, thread: str) -> list[Thought]:
        """Everything thought in a thread, in order."""
        async with self._database.tenant(principal) as connection:
            return await store.thoughts(connection, thread)

    async def forget(self, principal: Principal, thread: str) -> None:
        """Deletes a thread."""
        async with self._database.tenant(principal) as connection:
            await store.forget(connection, thread)


def thread_of(principal: Principal, named: str | None, default: str = DEFAULT_THREAD) -> str:
    """The thread that a call belongs to: the one it names, else its run's, else `default`."""
    if named is not None:
        return named
    return f"run:{principal.run}" if principal.run else default


def in_key_order(names: Sequence[str]) -> list[str]:
    """Names in the order of an object's keys in JavaScript (ECMA-262 §10.1.11): array indices first, ascending, then as given."""
    indices = [name for name in names if _INDEX.fullmatch(name) and int(name) <= _MAX_INDEX]
    return sorted(indices, key=int) + [name for name in names if name not in set(indices)]
