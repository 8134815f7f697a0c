"""P-BYOK: a user's own key is used for that user's calls, is checked, is never shown again, and goes nowhere else."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from auralink.core.secret import Secret
from auralink.llm.accounts import Account
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.auth.test_signing import Signer, send
from tests.conftest import TestDatabase
from tests.llm.conftest import MODELS, SharedHouse
from tests.llm.fake_vendor import FakeVendor, running
from tests.llm.test_gateway import chat
from tests.service import API, running_service, unique

pytestmark = [pytest.mark.promise("P-BYOK"), pytest.mark.asyncio(loop_scope="module")]

KEYS = f"{API}/llm/keys"


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


async def store(client: httpx2.AsyncClient, vendor: FakeVendor, **fields: Any) -> httpx2.Response:
    """Stores a key for OpenAI, whose server is the vendor; its own key unless another is given."""
    return await client.put(f"{KEYS}/openai", json={"api_key": vendor.key, "base_url": vendor.base_url("openai"), **fields})


def sent_keys(vendor: FakeVendor) -> list[str]:
    return [request.headers["Authorization"] for request in vendor.received]


async def test_a_users_own_key_wins_for_that_user_and_nobody_else(house: SharedHouse) -> None:
    async with running() as own, house.client() as client, house.client(unique()) as other:
        own.key = "sk-own-key-of-the-user"
        stored = await store(client, own)
        assert stored.status_code == 200, stored.text
        answer = await chat(client)
        assert (answer.status_code, answer.headers["x-auralink-key"]) == (200, "own")
        answer = await chat(other)
        assert (answer.status_code, answer.headers["x-auralink-key"]) == (200, "operator")
        assert sent_keys(own) == [f"Bearer {own.key}"]
        assert sent_keys(house.vendor) == [f"Bearer {house.vendor.key}"]
        assert (await client.delete(f"{KEYS}/openai")).status_code == 204
        assert (await chat(client)).headers["x-auralink-key"] == "operator"
        assert len(own.received) == 1
    assert [call["key_source"] for call in house.calls()] == ["own", "operator"]


async def test_without_a_key_of_anybody_a_model_is_refused_with_the_way_to_give_one(house: SharedHouse) -> None:
    async with house.client() as client:
        answer = await chat(client, "mistral/mistral-large-latest")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "provider_key_missing")
    assert "PUT /api/v1/llm/keys/mistral" in answer.json()["error"]["message"]


async def test_a_key_that_the_provider_does_not_know_is_not_stored(house: SharedHouse) -> None:
    async with house.client() as client:
        refused = await store(client, house.vendor, api_key="sk-a-wrong-key-for-all-i-know")
        assert (refused.status_code, refused.json()["code"]) == (422, "provider_key_refused")
        assert "sk-a-wrong" not in refused.text
        assert (await chat(client)).headers["x-auralink-key"] == "operator"
        unchecked = await store(client, house.vendor, api_key="sk-a-wrong-key-for-all-i-know", skip_check=True)
        assert unchecked.status_code == 200
        answer = await chat(client)
    assert answer.status_code == 502, "the own key wins even where it fails: the operator does not pay for it"
    assert answer.json()["error"]["kind"] == "unauthorized"


async def test_a_wrong_key_leaves_the_good_one_that_was_there(house: SharedHouse) -> None:
    async with house.client() as client:
        await store(client, house.vendor)
        assert (await store(client, house.vendor, api_key="sk-a-wrong-key")).status_code == 422
        answer = await chat(client)
    assert (answer.status_code, answer.headers["x-auralink-key"]) == (200, "own")


async def test_only_the_end_of_a_key_comes_out(house: SharedHouse) -> None:
    async with house.client() as client:
        stored = await store(client, house.vendor)
        assert set(stored.json()) == {"provider", "last4", "base_url", "created_at"}
        assert stored.json()["last4"] == house.vendor.key[-4:]
        assert (await client.get(KEYS)).json() == {"items": [stored.json()], "next_cursor": None}
        async with house.client(unique()) as other:
            assert (await other.get(KEYS)).json()["items"] == []
        providers = await client.get(f"{API}/llm/providers")
        (openai,) = (item for item in providers.json()["items"] if item["provider"] == "openai")
        assert openai["key"] == "own"
        assert house.vendor.key not in providers.text
        short = await store(client, house.vendor, api_key="abc12345", skip_check=True)
        assert short.json()["last4"] == "", "four characters would be half of it"
    (row,) = house.rows("SELECT * FROM auralink.user_llm_keys WHERE user_id = %s", house.user_id)
    assert b"abc12345" not in bytes(row["encrypted_key"])


async def test_keys_that_are_stored_at_the_same_time_replace_each_other(house: SharedHouse) -> None:
    async with house.client() as client:
        answers = await asyncio.gather(*(store(client, house.vendor) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await chat(client)).headers["x-auralink-key"] == "own"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"api_key": "a key\nwith a line"}, "provider_key_refused"),
        ({"api_key": "schlüssel"}, "provider_key_refused"),
        ({"api_key": ""}, "validation_failed"),
        ({}, "validation_failed"),
        ({"api_key": "sk-x", "base_url": "file:///etc/passwd"}, "endpoint_not_allowed"),
    ],
)
async def test_what_is_no_key_is_refused(house: SharedHouse, body: dict[str, Any], code: str) -> None:
    async with house.client() as client:
        answer = await client.put(f"{KEYS}/openai", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_unknown_providers_and_keys_are_told_so(house: SharedHouse) -> None:
    async with house.client() as client:
        answer = await client.put(f"{KEYS}/nobody", json={"api_key": "sk-x"})
        assert (answer.status_code, answer.json()["code"]) == (404, "provider_not_found")
        answer = await client.delete(f"{KEYS}/openai")
        assert (answer.status_code, answer.json()["code"]) == (404, "provider_key_not_found")
        answer = await client.put(f"{KEYS}/ollama", json={"api_key": "x"})
        assert answer.status_code == 422, "a server of one's own has no address that could be guessed"


async def test_a_user_does_not_reach_into_the_machine_with_a_base_url(house: SharedHouse, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(house.database.service, tmp_path, ring) as strict, strict.client(unique()) as client:
        for skip_check in (False, True):
            answer = await store(client, house.vendor, skip_check=skip_check)
            assert (answer.status_code, answer.json()["code"]) == (422, "endpoint_not_allowed")
    assert house.vendor.received == []


async def test_keys_are_changed_with_a_signature_once_one_is_registered(house: SharedHouse) -> None:
    signer = Signer()
    async with house.client() as client:
        await send(client, None, "POST", f"{API}/signing-keys", {"name": "laptop", "public_key": signer.pem})
        body = {"api_key": house.vendor.key, "base_url": house.vendor.base_url("openai")}
        refused = await send(client, None, "PUT", f"{KEYS}/openai", body)
        assert (refused.status_code, refused.json()["code"]) == (403, "signature_required")
        assert (await send(client, signer, "PUT", f"{KEYS}/openai", body)).status_code == 200
        assert (await send(client, None, "DELETE", f"{KEYS}/openai")).status_code == 403
        assert (await send(client, signer, "DELETE", f"{KEYS}/openai")).status_code == 204


async def test_a_key_opens_after_the_master_key_was_rotated(house: SharedHouse, tmp_path: Path) -> None:
    old, new = generate_master_key(), generate_master_key()
    both = KeyRing.parse(Secret(f"{new.reveal()},{old.reveal()}"))
    user, vendor = unique(), house.vendor
    settings: dict[str, Any] = {"allowed_networks": "127.0.0.0/8"}
    async with (
        running_service(house.database.service, tmp_path, KeyRing.parse(old), **settings) as service,
        service.client(user) as client,
    ):
        assert (await store(client, vendor)).status_code == 200
    async with running_service(house.database.service, tmp_path, both, **settings) as service, service.client(user) as client:
        answer = await chat(client)
    assert (answer.status_code, answer.headers["x-auralink-key"]) == (200, "own")


async def test_a_key_of_one_replica_is_used_by_the_other(house: SharedHouse, tmp_path: Path, test_database: TestDatabase) -> None:
    ring = KeyRing.parse(generate_master_key())
    accounts, user = {"openai": Account(house.vendor.base_url("openai"), Secret(house.vendor.key))}, unique()
    async with (
        running_service(test_database.service, tmp_path, ring, allowed_networks="127.0.0.0/8") as one,
        running_service(test_database.service, tmp_path, ring, accounts=accounts, allowed_networks="127.0.0.0/8") as two,
        one.client(user) as client,
        two.client(user) as other,
    ):
        assert (await chat(other)).headers["x-auralink-key"] == "operator"
        assert (await store(client, house.vendor)).status_code == 200
        async with asyncio.timeout(10):
            while (await chat(other)).headers["x-auralink-key"] != "own":
                await asyncio.sleep(0.01)  # until the announcement has arrived
        assert MODELS["openai"] == house_model(await chat(other))


def house_model(answer: httpx2.Response) -> str:
    return answer.headers["x-auralink-model"]
