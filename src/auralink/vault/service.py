"""The vault: seals a user's secrets before they reach the database, opens them at the last moment (P-SECRET).

Each user has a data key, wrapped by the operator's master key; `vault/crypto.py` has the cryptography. Unwrapped data keys are
kept in memory for a bounded number of users.
"""

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from auralink.core.db import Database, Tenant
from auralink.core.secret import Secret
from auralink.vault import store
from auralink.vault.crypto import DataKey, KeyRing, SealContext, open_sealed, seal, sealed_version

REMEMBERED_USERS = 1000
ROTATION_BATCH = 100


@dataclass(frozen=True)
class _Owner:
    user_id: UUID


class Vault:
    """Seals and opens secrets for the place (table, row, field) where they are stored."""

    def __init__(self, db: Database, ring: KeyRing) -> None:
        self._db = db
        self._ring = ring
        self._keys: OrderedDict[tuple[UUID, int], DataKey] = OrderedDict()

    async def seal(self, principal: Tenant, plaintext: Secret, *, table: str, row_id: UUID, field: str) -> bytes:
        """The secret as it may be stored in exactly that field of that row."""
        key = await self._current_key(principal)
        return seal(key, plaintext, SealContext(principal.user_id, table, row_id, field, key.version))

    async def open(self, principal: Tenant, sealed: bytes, *, table: str, row_id: UUID, field: str) -> Secret:
        """The secret in a field.

        Raises:
            VaultError: it was altered, moved from another place, or its keys are not here.
        """
        version = sealed_version(sealed)
        key = await self._key(principal, version)
        return open_sealed(key, sealed, SealContext(principal.user_id, table, row_id, field, version))

    async def rotate(self) -> int:
        """Wraps every data key with the current master key; the number of users whose keys were changed.

        Works online and in batches, each user in a transaction of its own: stopped half-way it goes on where it was, and once
        all is done it changes nothing.
        """
        changed = 0
        while True:
            async with self._db.system() as connection:
                users = await store.users_to_rewrap(connection, self._ring.current_key_id, ROTATION_BATCH)
            if not users:
                return changed
            for user_id in users:
                await self._rewrap(_Owner(user_id))
                changed += 1

    async def _rewrap(self, owner: _Owner) -> None:
        async with self._db.tenant(owner) as connection:
            for row in await store.data_keys(connection):
                new = self._ring.rewrap(row["wrapped"], owner.user_id, row["version"]) or row["wrapped"]
                await store.replace_wrapping(connection, row["version"], row["wrapped"], new, self._ring.current_key_id)

    async def _current_key(self, principal: Tenant) -> DataKey:
        async with self._db.tenant(principal) as connection:
            rows = await store.data_keys(connection)
            if not rows:
                wrapped = self._ring.wrap(DataKey.generate(), principal.user_id)
                await store.insert_data_key(connection, principal.user_id, 1, wrapped, self._ring.current_key_id)
                rows = await store.data_keys(connection)
        return self._unwrapped(principal, rows[0]["version"], rows[0]["wrapped"])

    async def _key(self, principal: Tenant, version: int) -> DataKey:
        key = self._keys.get((principal.user_id, version))
        if key is not None:
            return key
        async with self._db.tenant(principal) as connection:
            rows = await store.data_keys(connection)
        wrapped = next((row["wrapped"] for row in rows if row["version"] == version), b"")
        return self._unwrapped(principal, version, wrapped)

    def _unwrapped(self, principal: Tenant, version: int, wrapped: bytes) -> DataKey:
        key = self._ring.unwrap(wrapped, principal.user_id, version)
        self._keys[principal.user_id, version] = key
        if len(self._keys) > REMEMBERED_USERS:
            self._keys.popitem(last=False)
        return key
