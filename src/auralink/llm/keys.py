"""Users' own keys for providers (P-BYOK): checked with the provider, sealed by the vault, never shown again."""

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.errors import InvalidRequest, NotFound
from auralink.core.ids import uuid7
from auralink.core.secret import Secret
from auralink.llm import store
from auralink.llm.attempts import KEY_FIELD, KEY_TABLE, Attempts
from auralink.llm.errors import ProviderError
from auralink.llm.profiles import Profiles
from auralink.llm.providers.vendors import VENDORS, Vendor
from auralink.llm.schemas import KeyBody, KeyList, KeyView
from auralink.vault.service import Vault

SHOWN = 4
LONG_ENOUGH = 12
"""Characters of a key of which four may be shown."""


class ProviderNotFound(NotFound):
    """There is no such provider."""

    code = "provider_not_found"
    title = "Provider not found"


class KeyNotFound(NotFound):
    """The user has stored no key for the provider."""

    code = "provider_key_not_found"
    title = "Key not found"


class KeyRefused(InvalidRequest):
    """The provider does not take the key, or cannot be asked; nothing was stored."""

    code = "provider_key_refused"
    title = "The provider did not take the key"


class Keys:
    """Lists, stores and deletes keys."""

    def __init__(self, db: Database, *, vault: Vault, guard: EgressGuard, attempts: Attempts, profiles: Profiles) -> None:
        self._db = db
        self._vault = vault
        self._guard = guard
        self._attempts = attempts
        self._profiles = profiles

    async def all(self, principal: Principal) -> KeyList:
        """What may be shown of the user's keys, by provider."""
        async with self._db.tenant(principal) as connection:
            return KeyList(items=[KeyView.model_validate(row) for row in await store.keys(connection)])

    async def put(self, principal: Principal, provider: str, body: KeyBody) -> KeyView:
        """Stores a key in place of the one that was there.

        Raises:
            ProviderNotFound
            KeyRefused: the provider did not take it, or could not be asked (`skip_check` stores it all the same).
            EgressRefused: `base_url` is not an address that users may reach.
        """
        vendor = vendor_of(provider)
        key, row_id = Secret(body.api_key.get_secret_value()), uuid7()
        if not key.reveal().isprintable() or not key.reveal().isascii():
            raise KeyRefused("a key has no line breaks and no characters outside ASCII")
        base_url = await self._base_url(vendor, body.base_url)
        if not body.skip_check:
            await self._check(vendor, base_url, key)
        sealed = await self._vault.seal(principal, key, table=KEY_TABLE, row_id=row_id, field=KEY_FIELD)
        row = {"id": row_id, "provider": provider, "base_url": base_url, "encrypted_key": sealed, "last4": _last4(key)}
        async with self._db.tenant(principal) as connection:
            stored = await store.put_key(connection, row)
        self._profiles.forget(principal.user_id)
        return KeyView.model_validate(stored)

    async def delete(self, principal: Principal, provider: str) -> None:
        """Deletes a key. Raises `KeyNotFound`."""
        async with self._db.tenant(principal) as connection:
            deleted = await store.delete_key(connection, provider)
        if not deleted:
            raise KeyNotFound(f"you have stored no key for {provider[:100]!r}")
        self._profiles.forget(principal.user_id)

    async def _base_url(self, vendor: Vendor, given: str | None) -> str | None:
        if given is None:
            if vendor.self_hosted:
                raise InvalidRequest(f"{vendor.title} is a server of your own: give its base_url, such as {vendor.base_url}")
            return None
        return (await self._guard.check(given)).url.rstrip("/")

    async def _check(self, vendor: Vendor, base_url: str | None, key: Secret) -> None:
        try:
            await self._attempts.check_key(vendor.vendor_id, base_url or vendor.base_url, key, trusted=False)
        except ProviderError as error:
            remedy = "check the key" if error.kind == "unauthorized" else "try again, or store it unchecked with skip_check"
            raise KeyRefused(f"{error.message}; nothing was stored: {remedy}", extra={"provider": vendor.vendor_id}) from None


def vendor_of(provider: str) -> Vendor:
    """The vendor of that id. Raises `ProviderNotFound`."""
    vendor = VENDORS.get(provider)
    if vendor is None:
        raise ProviderNotFound(f"there is no provider {provider[:100]!r}; there are {', '.join(VENDORS)}")
    return vendor


def _last4(key: Secret) -> str:
    """The end of a key; of a short one nothing, for that would be much of it."""
    return key.reveal()[-SHOWN:] if len(key.reveal()) >= LONG_ENOUGH else ""
