"""What a user prefers: models for `auto`, with what each may use in a month, and what a request without a model means."""

from uuid import UUID

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import NotFound
from auralink.core.ids import uuid7
from auralink.journal import usage_store
from auralink.journal.limits import Limits
from auralink.llm import store
from auralink.llm.profiles import Profiles
from auralink.llm.schemas import PreferenceBody, PreferenceView
from auralink.llm.selection import Selection, is_automatic


class PreferenceNotFound(NotFound):
    """The user has no such preference."""

    code = "preference_not_found"
    title = "Preference not found"


class Preferences:
    """Stores preferences."""

    def __init__(self, db: Database, selection: Selection, profiles: Profiles, limits: Limits) -> None:
        self._db = db
        self._selection = selection
        self._profiles = profiles
        self._limits = limits

    async def all(self, principal: Principal) -> list[PreferenceView]:
        """The user's preferences."""
        async with self._db.tenant(principal) as connection:
            return [PreferenceView.model_validate(row) for row in await store.preferences(connection)]

    async def put(self, principal: Principal, body: PreferenceBody) -> PreferenceView:
        """Stores a preference and the limits of its model. Raises `ModelNotFound`."""
        model_id = self._selection.find(body.model_id).model_id
        async with self._db.tenant(principal) as connection:
            row_id = await store.put_preference(connection, {**body.model_dump(), "model_id": model_id, "id": uuid7()})
            await _limit(connection, model_id)
            stored = await store.preference(connection, row_id)
        self._forget(principal)
        return PreferenceView.model_validate(stored)

    async def put_default(self, principal: Principal, name: str) -> PreferenceView:
        """Makes a model, or a form of `auto`, the default. Raises `ModelNotFound`."""
        model_id = name if is_automatic(name) else self._selection.find(name).model_id
        self._selection.check_automatic(model_id)
        async with self._db.tenant(principal) as connection:
            row_id = await store.put_default(connection, {"id": uuid7(), "model_id": model_id})
            stored = await store.preference(connection, row_id)
        self._profiles.forget(principal.user_id)
        return PreferenceView.model_validate(stored)

    async def delete(self, principal: Principal, preference_id: UUID) -> bool:
        """Removes a preference and the limits that it set; whether there was one."""
        async with self._db.tenant(principal) as connection:
            gone = await store.delete_preference(connection, preference_id)
            if gone is not None:
                await _limit(connection, gone["model_id"])
        self._forget(principal)
        return gone is not None

    def _forget(self, principal: Principal) -> None:
        self._profiles.forget(principal.user_id)
        self._limits.forget(principal.user_id)


async def _limit(connection: Connection, model_id: str) -> None:
    """Sets the month's limits of a model to the lowest that the tenant's preferences for it name, or removes them."""
    rows = [row for row in await store.preferences(connection) if row["model_id"] == model_id]
    tokens = [row["usage_limit_tokens"] for row in rows if row["usage_limit_tokens"] is not None]
    money = [row["cost_limit_usd"] for row in rows if row["cost_limit_usd"] is not None]
    scope = f"model:{model_id}"
    if not tokens and not money:
        await usage_store.delete_limit(connection, scope, "month")
        return
    limit = {"max_tokens": min(tokens, default=None), "max_cost_usd": min(money, default=None), "max_calls": None}
    await usage_store.put_limit(connection, {**limit, "scope": scope, "period": "month", "set_by": "user"})
