"""The vault over its tables: sealed for one place of one user, and rewrapped while it is in use."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.ids import uuid7
from auralink.core.secret import Secret
from auralink.vault import service as module
from auralink.vault.crypto import KeyRing, generate_master_key
from auralink.vault.errors import MasterKeyMissing, SealBroken, VaultError
from auralink.vault.service import Vault
from tests.conftest import MakePrincipal, TestDatabase

pytestmark = pytest.mark.promise("P-SECRET")

SECRET = Secret("what nobody may see")


def place(row_id: UUID | None = None, *, table: str = "things", field: str = "sealed") -> dict[str, object]:
    return {"table": table, "row_id": row_id or UUID(int=1), "field": field}


def ring_of(*keys: Secret) -> KeyRing:
    return KeyRing.parse(Secret(",".join(key.reveal() for key in keys)))


def stored(
    database: TestDatabase, query: str = "SELECT user_id, wrapped, master_key_id FROM auralink.data_keys"
) -> list[tuple[object, ...]]:
    with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
        cursor = session.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


async def test_a_sealed_secret_opens_in_its_place(vault: Vault, principal: Principal) -> None:
    sealed = await vault.seal(principal, SECRET, **place())  # type: ignore[arg-type]
    assert SECRET.reveal().encode() not in sealed
    assert await vault.open(principal, sealed, **place()) == SECRET  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [place(uuid7()), place(table="others"), place(field="other")], ids=["row", "table", "field"])
async def test_a_sealed_secret_opens_in_no_other_place(vault: Vault, principal: Principal, other: dict[str, object]) -> None:
    sealed = await vault.seal(principal, SECRET, **place())  # type: ignore[arg-type]
    with pytest.raises(SealBroken):
        await vault.open(principal, sealed, **other)  # type: ignore[arg-type]


@pytest.mark.promise("P-RLS")
async def test_another_user_opens_nothing_even_with_the_bytes_in_hand(vault: Vault, make_principal: MakePrincipal) -> None:
    ours, theirs = make_principal(), make_principal()
    sealed = await vault.seal(ours, SECRET, **place())  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(VaultError):
            await vault.open(theirs, sealed, **place())  # type: ignore[arg-type]
        await vault.seal(theirs, SECRET, **place())  # type: ignore[arg-type]  # now with a data key of their own


@pytest.mark.promise("P-RLS")
async def test_a_stolen_data_key_row_opens_nothing_for_the_thief(
    vault: Vault, database: Database, ring: KeyRing, make_principal: MakePrincipal, test_database: TestDatabase
) -> None:
    ours, theirs = make_principal(), make_principal()
    sealed = await vault.seal(ours, SECRET, **place())  # type: ignore[arg-type]
    await vault.seal(theirs, SECRET, **place())  # type: ignore[arg-type]
    stored(
        test_database,
        f"UPDATE auralink.data_keys SET wrapped = (SELECT wrapped FROM auralink.data_keys WHERE user_id = '{ours.user_id}') "
        f"WHERE user_id = '{theirs.user_id}'",
    )
    with pytest.raises(SealBroken):
        await Vault(database, ring).open(theirs, sealed, **place())  # type: ignore[arg-type]


async def test_two_processes_that_seal_first_agree_on_one_data_key(
    database: Database, ring: KeyRing, principal: Principal, test_database: TestDatabase
) -> None:
    vaults = [Vault(database, ring) for _ in range(6)]
    sealed = await asyncio.gather(*(vault.seal(principal, SECRET, **place()) for vault in vaults))  # type: ignore[arg-type]
    assert len(stored(test_database)) == 1
    for one in sealed:
        assert await Vault(database, ring).open(principal, one, **place()) == SECRET  # type: ignore[arg-type]


async def test_rotation_wraps_every_key_anew_and_repeated_changes_nothing(
    database: Database, make_principal: MakePrincipal, test_database: TestDatabase
) -> None:
    old, new = generate_master_key(), generate_master_key()
    principals = [make_principal() for _ in range(5)]
    before = Vault(database, ring_of(old))
    sealed = [await before.seal(principal, SECRET, **place()) for principal in principals]  # type: ignore[arg-type]
    rotated = Vault(database, ring_of(new, old))
    assert await rotated.rotate() == 5
    rows = stored(test_database)
    assert {row[2] for row in rows} == {ring_of(new).current_key_id}
    assert await rotated.rotate() == 0
    assert stored(test_database) == rows
    without_old = Vault(database, ring_of(new))
    for principal, one in zip(principals, sealed, strict=True):
        assert await without_old.open(principal, one, **place()) == SECRET  # type: ignore[arg-type]


async def test_a_service_goes_on_sealing_and_opening_while_keys_rotate(
    database: Database, make_principal: MakePrincipal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATION_BATCH", 3)
    old, new = generate_master_key(), generate_master_key()
    principals = [make_principal() for _ in range(20)]
    for principal in principals:
        await Vault(database, ring_of(old)).seal(principal, SECRET, **place())  # type: ignore[arg-type]

    async def use(principal: Principal) -> None:
        vault = Vault(database, ring_of(new, old))
        sealed = await vault.seal(principal, SECRET, **place())  # type: ignore[arg-type]
        assert await Vault(database, ring_of(new, old)).open(principal, sealed, **place()) == SECRET  # type: ignore[arg-type]

    rotation = asyncio.create_task(Vault(database, ring_of(new, old)).rotate())
    await asyncio.gather(*(use(principal) for principal in principals), rotation)
    assert rotation.result() == 20


async def test_a_rotation_that_died_half_way_is_taken_up_where_it_was(
    database: Database, make_principal: MakePrincipal, test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = generate_master_key(), generate_master_key()
    for _ in range(6):
        await Vault(database, ring_of(old)).seal(make_principal(), SECRET, **place())  # type: ignore[arg-type]
    real, done = module.store.replace_wrapping, 0

    async def die_at_the_third(*values: object) -> None:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        await real(*values)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module.store, "replace_wrapping", die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            await Vault(database, ring_of(new, old)).rotate()
    of_new = [row for row in stored(test_database) if row[2] == ring_of(new).current_key_id]
    assert len(of_new) == 2
    assert await Vault(database, ring_of(new, old)).rotate() == 4


async def test_rotation_ends_even_if_a_row_says_the_wrong_key(
    database: Database, principal: Principal, ring: KeyRing, test_database: TestDatabase
) -> None:
    vault = Vault(database, ring)
    await vault.seal(principal, SECRET, **place())  # type: ignore[arg-type]
    stored(test_database, "UPDATE auralink.data_keys SET master_key_id = 'ffffffff'")
    async with asyncio.timeout(10):
        assert await vault.rotate() == 1
        assert await vault.rotate() == 0


async def test_a_key_that_is_no_longer_listed_is_named(database: Database, principal: Principal) -> None:
    old, new = generate_master_key(), generate_master_key()
    sealed = await Vault(database, ring_of(old)).seal(principal, SECRET, **place())  # type: ignore[arg-type]
    without = Vault(database, ring_of(new))
    with pytest.raises(MasterKeyMissing, match=ring_of(old).current_key_id):
        await without.open(principal, sealed, **place())  # type: ignore[arg-type]
    with pytest.raises(MasterKeyMissing, match=ring_of(old).current_key_id):
        await without.rotate()


async def test_a_deleted_data_key_makes_its_secrets_unreadable_and_says_so(
    database: Database, principal: Principal, ring: KeyRing, test_database: TestDatabase
) -> None:
    sealed = await Vault(database, ring).seal(principal, SECRET, **place())  # type: ignore[arg-type]
    stored(test_database, "DELETE FROM auralink.data_keys")
    with pytest.raises(SealBroken):
        await Vault(database, ring).open(principal, sealed, **place())  # type: ignore[arg-type]


async def test_the_vault_remembers_a_bounded_number_of_users(
    database: Database, ring: KeyRing, make_principal: MakePrincipal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_USERS", 3)
    vault = Vault(database, ring)
    for _ in range(6):
        await vault.seal(make_principal(), SECRET, **place())  # type: ignore[arg-type]
    assert len(vault._keys) == 3
