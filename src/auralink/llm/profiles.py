"""What a user brings to a model call: its own keys and its preferences. Remembered until Postgres announces a change."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from auralink.core.changes import Change, Changes
from auralink.core.db import Database, Tenant
from auralink.llm import store

MAX_AGE = 30.0
REMEMBERED = 10_000
TABLES = frozenset({"user_llm_keys", "user_llm_preferences"})


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A user's key for a provider, sealed."""

    key_id: UUID
    provider: str
    base_url: str | None
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Preference:
    """A model that the user prefers."""

    model_id: str
    priority: int
    task_type: str | None


@dataclass(frozen=True, slots=True)
class Profile:
    """One user's keys, by provider, and preferences, the most wanted first."""

    keys: Mapping[str, StoredKey] = field(default_factory=dict)
    preferences: tuple[Preference, ...] = ()
    default_model: str | None = None


class Profiles:
    """Every user's profile, remembered for a while."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db = db
        self._changes = changes
        self._version = 0
        self._known: dict[UUID, tuple[float, Profile]] = {}
        changes.subscribe(self)

    def changed(self, change: Change) -> None:
        """Forgets the profile of a user who has another now."""
        if change.table in TABLES and change.user_id is not None:
            self.forget(change.user_id)

    def lost(self) -> None:
        """Forgets everybody's."""
        self._version += 1
        self._known.clear()

    def forget(self, user_id: UUID) -> None:
        """Drops a profile; for a change made in this process, which need not wait for its own notice."""
        self._version += 1
        self._known.pop(user_id, None)

    async def of(self, principal: Tenant) -> Profile:
        """The user's profile."""
        known = self._known.get(principal.user_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        version = self._version
        profile = await self._read(principal)
        if self._changes.listening and self._version == version:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[principal.user_id] = (time.monotonic() + MAX_AGE, profile)
        return profile

    async def _read(self, principal: Tenant) -> Profile:
        async with self._db.tenant(principal) as connection:
            keys = await store.keys(connection)
            preferences = await store.preferences(connection)
        return Profile(
            {
                row["provider"]: StoredKey(row["id"], row["provider"], row["base_url"], bytes(row["encrypted_key"]))
                for row in keys
            },
            tuple(Preference(row["model_id"], row["priority"], row["task_type"]) for row in preferences if row["preferred"]),
            next((row["model_id"] for row in preferences if row["is_default"]), None),
        )
