"""Webhooks: kept with a sealed secret; what is delivered to them starts runs."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.buckets import Buckets
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest, RateLimited
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.secret import Secret
from auralink.runs.schemas import Order
from auralink.runs.starting import Startables, require_room
from auralink.vault.service import Vault
from auralink.webhooks import signatures, store
from auralink.webhooks.errors import BadEvent, WebhookNameTaken, WebhookSignatureInvalid, webhook_not_found
from auralink.webhooks.schemas import Taken, WebhookBody, WebhookPage, WebhookPatch, WebhookSecret, WebhookView
from auralink.webhooks.signatures import Delivery
from auralink.workflows.expressions import BadExpression, filled
from auralink.workflows.schemas import EVENT

DOOR = "/api/v1/hooks"
TABLE, FIELD = "webhooks", "encrypted_secret"
MAX_ABOUT = 200
PER_MINUTE = 120
"""Deliveries to one webhook."""


@dataclass(frozen=True)
class _Owner:
    user_id: UUID


class Webhooks:
    """What users do with webhooks, and what those who deliver events do."""

    def __init__(self, db: Database, vault: Vault, startables: Startables, buckets: Buckets) -> None:
        self._db = db
        self._vault = vault
        self._startables = startables
        self._buckets = buckets

    async def create(self, principal: Principal, body: WebhookBody) -> WebhookSecret:
        """A new webhook, and its secret this once. Raises NotFound for the definition, WebhookNameTaken, TooManyDefinitions."""
        webhook_id, secret = uuid7(), signatures.new_secret()
        sealed = await self._vault.seal(principal, secret, table=TABLE, row_id=webhook_id, field=FIELD)
        row = {**body.model_dump(), "id": webhook_id, "user_id": principal.user_id, "encrypted_secret": sealed}
        try:
            async with self._db.tenant(principal) as connection:
                await self._startables.of(body.kind).find_id(connection, body.definition_id)
                await require_room(connection, "webhooks")
                made = await store.insert(connection, row)
        except UniqueViolation:
            raise _name_taken(body.name) from None
        return _with_secret(made, secret)

    async def get(self, principal: Principal, webhook_id: UUID) -> WebhookView:
        """One of them. Raises WebhookNotFound."""
        async with self._db.tenant(principal) as connection:
            return _view(_found(await store.find(connection, webhook_id), webhook_id))

    async def page(self, principal: Principal, *, after: Position | None, limit: int) -> WebhookPage:
        """The principal's webhooks, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, after=after, limit=limit + 1)
        items = [_view(row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].webhook_id)) if len(rows) > limit else None
        return WebhookPage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, webhook_id: UUID, patch: WebhookPatch) -> WebhookView:
        """Changes what the patch names. Raises WebhookNotFound, WebhookNameTaken."""
        given = patch.model_dump(exclude_unset=True)
        changes = {name: value for name, value in given.items() if value is not None or name == "input"}
        try:
            async with self._db.tenant(principal) as connection:
                _found(await store.find(connection, webhook_id), webhook_id)
                if not changes:
                    raise InvalidRequest("the body changes nothing; give a name, an input or paused")
                return _view(_found(await store.update(connection, webhook_id, changes), webhook_id))
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None

    async def renew_secret(self, principal: Principal, webhook_id: UUID) -> WebhookSecret:
        """Another secret; the old one opens nothing from now on. Raises WebhookNotFound."""
        secret = signatures.new_secret()
        async with self._db.tenant(principal) as connection:
            _found(await store.find(connection, webhook_id), webhook_id)
        sealed = await self._vault.seal(principal, secret, table=TABLE, row_id=webhook_id, field=FIELD)
        async with self._db.tenant(principal) as connection:
            row = await store.update(connection, webhook_id, {"encrypted_secret": sealed})
        return _with_secret(_found(row, webhook_id), secret)

    async def remove(self, principal: Principal, webhook_id: UUID) -> None:
        """Deletes a webhook; its runs stay. Raises WebhookNotFound."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, webhook_id):
                raise webhook_not_found(webhook_id)

    async def deliver(self, webhook_id: UUID, delivery: Delivery) -> Taken:
        """Takes an event, if it is signed: it starts a run, once, however often it is delivered.

        Raises WebhookSignatureInvalid, RateLimited, BadEvent, and what the definition says of the input.
        """
        signatures.check_time(delivery)
        owner = await self._sender(webhook_id, delivery)
        event = _event(delivery.body)
        async with self._db.tenant(owner) as connection:
            webhook = _found(await store.find(connection, webhook_id), webhook_id)
            run = None
            if not webhook["paused"] and await self._wanted(connection, webhook, event):
                order = _order(webhook, delivery, event)
                run = await self._startables.start_in(connection, owner, webhook["kind"], webhook["definition_id"], order, event)
            await store.heard(connection, webhook_id, None if run is None else run.run_id)
        return Taken(status="ignored") if run is None else Taken(status=run.status, run_id=run.run_id)

    async def _sender(self, webhook_id: UUID, delivery: Delivery) -> _Owner:
        """Whose webhook it is, if the delivery is signed with its secret. Raises RateLimited, WebhookSignatureInvalid."""
        async with self._db.system() as connection:
            user_id = await store.owner(connection, webhook_id)
        if user_id is not None:
            await self._count(webhook_id)
            owner = _Owner(user_id)
            async with self._db.tenant(owner) as connection:
                row = await store.find(connection, webhook_id)
            if row is not None:
                secret = await self._vault.open(owner, bytes(row[FIELD]), table=TABLE, row_id=webhook_id, field=FIELD)
                if signatures.is_signed(delivery, secret):
                    return owner
        raise WebhookSignatureInvalid("no signature in webhook-signature is made with this webhook's secret")

    async def _count(self, webhook_id: UUID) -> None:
        """Counts a delivery, signed or not: looking at the signature is what costs. Raises RateLimited."""
        wait = await self._buckets.take(f"webhook:{webhook_id}", PER_MINUTE)
        if wait > 0:
            seconds = max(1, math.ceil(wait))
            raise RateLimited(
                f"a webhook takes {PER_MINUTE} deliveries a minute; deliver this one again in {seconds} s",
                headers={"Retry-After": str(seconds)},
                extra={"retry_after": seconds},
            )

    async def _wanted(self, connection: Connection, webhook: DictRow, event: Mapping[str, Any]) -> bool:
        return await self._startables.of(webhook["kind"]).wants(connection, webhook["definition_id"], event)


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"the event is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise BadEvent('the event is no JSON object; Standard Webhooks sends {"type": …, "timestamp": …, "data": {…}}')
    return event


def _order(webhook: DictRow, delivery: Delivery, event: Mapping[str, Any]) -> Order:
    """The run that an event starts. Its key is the delivery's, so that one that is repeated starts nothing new."""
    digest = hashlib.sha256(delivery.delivery_id.encode()).hexdigest()
    try:
        given = None if webhook["input"] is None else filled(webhook["input"], {EVENT: event})
    except BadExpression as error:
        raise BadEvent(f"the webhook's input cannot be made of this event: {error}") from None
    room, call, key = _about("room_id", event), _about("call_id", event), f"webhook:{webhook['id']}:{digest}"
    at = "/input" if given is not None else "/data" if isinstance(event.get("data"), Mapping) else ""
    return Order(given, room, call, idempotency_key=key, at=at)


def _about(name: str, event: Mapping[str, Any]) -> str | None:
    """The room or the call of an event: in its data, or beside it."""
    data = event.get("data")
    places = (data if isinstance(data, Mapping) else {}, event)
    value = next((place[name] for place in places if place.get(name) is not None), None)
    return None if value is None else str(value)[:MAX_ABOUT].replace("\0", "")


def _found(row: DictRow | None, webhook_id: UUID) -> DictRow:
    if row is None:
        raise webhook_not_found(webhook_id)
    return row


def _fields(row: DictRow) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in ("id", FIELD)}
    return {"webhook_id": row["id"], "path": f"{DOOR}/{row['id']}", **shown}


def _view(row: DictRow) -> WebhookView:
    return WebhookView(**_fields(row))


def _with_secret(row: DictRow, secret: Secret) -> WebhookSecret:
    return WebhookSecret(**_fields(row), secret=secret.reveal())


def _name_taken(name: str) -> WebhookNameTaken:
    return WebhookNameTaken(f"you have a webhook named {name!r}; change it with PATCH, or choose another name")
