"""Access tokens end, are refused, and are refreshed: once, whoever asks and however many processes there are."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.conftest import eventually
from tests.mcp.oauth.authority import Authority
from tests.mcp.oauth.test_authorization import LOOPBACK, authorised, come_back, consent, greet, world
from tests.service import API, running_service, unique


async def status_of(client: httpx2.AsyncClient, connection: str) -> Any:
    return (await client.get(f"{API}/mcp/connections/{connection}")).json()["status"]


def end_tokens(authority: Authority, service: Any) -> None:
    """Ends the tokens as time would: for the server, and for the service that holds them."""
    authority.expire()
    access = service.app.state.mcp.access
    for connection_id, held in list(access._held.items()):
        access._held[connection_id] = type(held)(held.access, held.version, held.credential_version, 0.0, 0.0)


async def test_a_token_that_ends_is_refreshed_before_the_call_needs_it(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        await authorised(service, client, server)
        assert (await greet(client)).status_code == 200
        end_tokens(authority, service)
        seen = len(server.headers)
        assert (await greet(client)).status_code == 200
        assert authority.refreshed == 1
        assert {headers["authorization"] for headers in server.headers[seen:]} == {f"Bearer {next(iter(authority.tokens))}"}
        assert (await greet(client)).status_code == 200
        assert authority.refreshed == 1


async def test_a_token_that_is_refused_in_the_middle_is_refreshed_and_the_call_repeated(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        await authorised(service, client, server)
        assert (await greet(client)).status_code == 200
        authority.expire()
        assert (await greet(client)).status_code == 200
        assert authority.refreshed == 1


@pytest.mark.parametrize("rotates", [True, False])
async def test_many_calls_of_two_replicas_refresh_once(dsn: Secret, tmp_path: Path, ring: KeyRing, rotates: bool) -> None:
    user = unique()
    async with world(dsn, tmp_path, ring, rotates=rotates) as (service, authority, server), service.client(user) as client:
        async with running_service(dsn, tmp_path, ring, allowed_networks=LOOPBACK) as replica, replica.client(user) as other:
            connection = await authorised(service, client, server)
            await asyncio.gather(greet(client), greet(other))
            authority.expire()
            authority.gate.clear()
            calls = [asyncio.create_task(greet(one)) for one in (client, other) for _ in range(10)]
            await eventually(lambda: authority.refreshed)
            authority.gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
            assert authority.refreshed == 1
            authority.expire()
            assert (await greet(other)).status_code == 200
            assert (await greet(client)).status_code == 200
            assert authority.refreshed == 2
            assert await status_of(client, connection) == "active"


async def test_a_caller_that_goes_away_does_not_lose_a_rotated_token(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        await authorised(service, client, server)
        authority.expire()
        authority.gate.clear()
        call = asyncio.create_task(greet(client))
        await eventually(lambda: authority.refreshed)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        authority.gate.set()
        await eventually(lambda: authority.tokens)
        assert (await greet(client)).status_code == 200
        assert authority.refreshed == 1


async def test_a_grant_that_was_revoked_asks_for_authorization_again(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        connection = await authorised(service, client, server)
        presented = next(iter(authority.refresh_tokens))
        authority.revoke()
        refused = await greet(client)
        assert (refused.status_code, refused.json()["code"]) == (409, "authorization_required")
        assert await status_of(client, connection) == "authorization_required"
        view = (await client.get(f"{API}/mcp/connections/{connection}")).json()
        assert "invalid_grant" in view["last_error"]
        assert presented not in view["last_error"]  # the server quotes it

        assert (await greet(client)).status_code == 409
        assert authority.refreshed == 1
        tested = await client.post(f"{API}/mcp/connections/{connection}/test")
        assert tested.status_code == 409
        assert await status_of(client, connection) == "authorization_required"

        started = await client.post(f"{API}/mcp/connections/{connection}/oauth/start")
        assert (await come_back(service, await consent(started.json()["authorization_url"]))).status_code == 200
        assert (await greet(client)).status_code == 200


async def test_without_a_refresh_token_the_end_of_the_access_token_is_the_end(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring, refreshes=False) as (service, authority, server), service.client(unique()) as client:
        connection = await authorised(service, client, server)
        assert (await greet(client)).status_code == 200
        authority.expire()
        assert (await greet(client)).json()["code"] == "authorization_required"
        assert await status_of(client, connection) == "authorization_required"


@pytest.mark.promise("P-BULKHEAD")
async def test_an_authorization_server_that_fails_is_left_alone_and_costs_no_grant(
    dsn: Secret, tmp_path: Path, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        connection = await authorised(service, client, server)
        end_tokens(authority, service)
        authority.down = True
        before = len(authority.requests)
        answers = [await greet(client) for _ in range(3)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(502, "oauth_server_failed")}
        assert len(authority.requests) == before + 1
        assert await status_of(client, connection) == "active"
        authority.down = False
        monkeypatch.setitem(service.app.state.mcp.access._resting, *_rested(service))
        assert (await greet(client)).status_code == 200


def _rested(service: Any) -> tuple[Any, Any]:
    """The rest of the only authorization server, over by now."""
    connection_id, (_, failure) = next(iter(service.app.state.mcp.access._resting.items()))
    return connection_id, (0.0, failure)


async def test_a_token_that_is_still_good_is_used_while_its_refresh_fails(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        await authorised(service, client, server)
        access = service.app.state.mcp.access
        connection_id, held = next(iter(access._held.items()))
        access._held[connection_id] = type(held)(held.access, held.version, held.credential_version, 0.0, held.ends)
        authority.down = True
        assert (await greet(client)).status_code == 200
        assert (await greet(client)).status_code == 200


@pytest.mark.promise("P-SECRET")
async def test_a_token_that_the_server_repeats_is_masked_also_after_a_refresh(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        await authorised(service, client, server)
        for _ in range(3):
            await client.post(f"{API}/mcp/tools/mine__leak/call", json={})
            (token,) = authority.tokens
            log = (await client.get(f"{API}/audit")).json()["items"][0]
            assert "my tokens: ***" in log["error"]
            assert token not in str(log)
            authority.expire()
