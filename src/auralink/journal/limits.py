"""What a user may use: tokens and money a day, a month or a run, and calls a minute. Read from memory; changes are announced.

Most users have no limit of tokens or money, and for them nothing is reserved.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from auralink.core.changes import Change, Changes
from auralink.core.db import Database, Tenant
from auralink.journal import usage_store as store

MAX_AGE = 30.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class UserLimits:
    """The limits of one user: the scopes whose tokens or cost are limited, and the calls that may be made in a minute."""

    budgeted: frozenset[str] = frozenset()
    money: frozenset[str] = frozenset()
    """Those of them in which money is limited."""
    calls_a_minute: tuple[tuple[str, int], ...] = ()

    def calls(self, scope: str, otherwise: int) -> int:
        """Calls a minute in `tools` or `models`."""
        return next((calls for name, calls in self.calls_a_minute if name == scope), otherwise)

    def needs_reservation(self, scopes: Collection[str]) -> bool:
        """Whether a call in these scopes has to reserve what it may use."""
        return not self.budgeted.isdisjoint(scopes)

    def limits_money(self, scopes: Collection[str]) -> bool:
        """Whether the money of a call in these scopes is limited."""
        return not self.money.isdisjoint(scopes)


class Limits:
    """Every user's limits, remembered for a while."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db = db
        self._changes = changes
        self._version = 0
        self._known: dict[UUID, tuple[float, UserLimits]] = {}
        changes.subscribe(self)

    def changed(self, change: Change) -> None:
        """Forgets the limits of a user who has others now."""
        if change.table == "usage_limits" and change.user_id is not None:
            self.forget(change.user_id)

    def forget(self, user_id: UUID) -> None:
        """Drops a user's limits; for a change made in this process, which need not wait for its own notice."""
        self._version += 1
        self._known.pop(user_id, None)

    def lost(self) -> None:
        """Forgets everybody's."""
        self._version += 1
        self._known.clear()

    async def of(self, principal: Tenant) -> UserLimits:
        """The user's limits."""
        known = self._known.get(principal.user_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        version = self._version
        async with self._db.tenant(principal) as connection:
            rows = await store.limits(connection)
        limits = UserLimits(
            frozenset(row["scope"] for row in rows if row["period"] != "minute"),
            frozenset(row["scope"] for row in rows if row["max_cost_usd"] is not None),
            tuple((row["scope"], row["max_calls"]) for row in rows if row["period"] == "minute"),
        )
        if self._changes.listening and self._version == version:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[principal.user_id] = (time.monotonic() + MAX_AGE, limits)
        return limits
