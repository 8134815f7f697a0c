"""Sessions with servers of every revision, over the official SDK's server on a real port."""

import asyncio

import pytest

from auralink.mcp.upstream.errors import SessionLost, UpstreamBadAnswer, UpstreamError, UpstreamRejected, UpstreamTimeout
from tests.mcp.upstream.conftest import Listener, OpenSession, soon
from tests.upstreams import faults, raw, sdk

REVISIONS = (None, "2025-11-25", "2025-06-18", "2025-03-26")


@pytest.mark.promise("P-ERA")
@pytest.mark.parametrize("stateless", [False, True], ids=["sessions", "stateless"])
@pytest.mark.parametrize("json_response", [True, False], ids=["json", "events"])
@pytest.mark.parametrize("revision", REVISIONS, ids=lambda revision: revision or "2026-07-28")
async def test_a_server_of_any_revision_lists_and_answers(
    open_session: OpenSession, revision: str | None, json_response: bool, stateless: bool
) -> None:
    async with sdk.over_http(revision=revision, json_response=json_response, stateless=stateless) as server:
        session = await open_session(server.url)
        assert session.protocol_version == (revision or "2026-07-28")
        assert (session.server_info["name"], session.instructions) == ("tests", "For tests.")
        assert set(await session.list_tools(soon())) == {"echo", "pay", "fail", "count"}
        result = await session.request("tools/call", {"name": "echo", "arguments": {"text": "ä\n\u2028"}}, soon())
        assert result["content"][0]["text"] == "ä\n\u2028"
        failed = await session.request("tools/call", {"name": "fail", "arguments": {"reason": "no"}}, soon())
        assert failed["isError"] is True
        with pytest.raises(UpstreamRejected, match="rejected nothing/known"):
            await session.request("nothing/known", {}, soon())
        await session.close()
        in_session = revision is not None and not stateless
        assert (("DELETE", "") in server.requests) is in_session
        assert server.calls == ["echo", "fail"]


@pytest.mark.promise("P-ERA")
@pytest.mark.parametrize("revision", REVISIONS, ids=lambda revision: revision or "2026-07-28")
async def test_progress_reaches_the_client_under_its_own_token(open_session: OpenSession, revision: str | None) -> None:
    async with sdk.over_http(revision=revision) as server:
        session = await open_session(server.url)
        peer = Listener()
        params = {"name": "count", "arguments": {"to": 3}, "_meta": {"progressToken": "mine"}}
        result = await session.request("tools/call", params, soon(), peer=peer)
        assert result["structuredContent"] == {"result": 3}
        told = [message["params"] for message in peer.heard if message["method"] == "notifications/progress"]
        assert [(note["progressToken"], note["progress"]) for note in told] == [("mine", 0), ("mine", 1), ("mine", 2)]


async def test_a_lost_session_is_opened_again_once_and_the_call_is_made_once(open_session: OpenSession) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server:
        session = await open_session(server.url)
        server.sessions.clear()
        calls = [session.request("tools/call", {"name": "pay", "arguments": {"n": n}}, soon()) for n in range(8)]
        answers = await asyncio.gather(*calls)
        assert sorted(answer["content"][0]["text"] for answer in answers) == [f'{{"n": {n}}}' for n in range(8)]
        assert server.count("initialize") == 2


async def test_a_session_that_is_lost_at_once_again_is_an_error(open_session: OpenSession) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server:
        session = await open_session(server.url)
        server.on["tools/call"] = faults.status("404 Not Found")
        with pytest.raises(SessionLost):
            await session.request("tools/call", {"name": "pay"}, soon())
        assert (server.count("initialize"), server.count("tools/call")) == (2, 2)


async def test_a_400_about_the_session_is_a_lost_session_too(open_session: OpenSession) -> None:
    async def no_session(exchange: raw.Exchange) -> None:
        await exchange.error(-32000, "Bad Request: No valid session ID provided", status="400 Bad Request")

    async with raw.running(raw.RawServer(handshake=True)) as server:
        session = await open_session(server.url)
        server.on["tools/call"] = faults.once(no_session)
        assert await session.request("tools/call", {"name": "pay"}, soon())
        assert (server.count("initialize"), server.count("tools/call")) == (2, 2)


async def test_a_server_restarted_with_other_tools_is_asked_for_them_again(open_session: OpenSession) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server:
        session = await open_session(server.url)
        assert set(await session.list_tools(soon())) == {"echo", "pay"}
        server.sessions.clear()
        await session.request("tools/call", {"name": "echo"}, soon())
        await session.list_tools(soon())
        assert server.count("tools/list") == 2


async def test_an_error_with_an_http_status_keeps_its_words(open_session: OpenSession) -> None:
    async def broken(exchange: raw.Exchange) -> None:
        await exchange.error(-32603, "the disk is full", status="500 Internal Server Error")

    async with raw.running() as server:
        session = await open_session(server.url)
        server.on["tools/call"] = broken
        with pytest.raises(UpstreamRejected, match="the disk is full"):
            await session.request("tools/call", {"name": "pay"}, soon())


async def test_a_server_that_speaks_no_revision_of_ours_is_named(open_session: OpenSession) -> None:
    async def ancient(exchange: raw.Exchange) -> None:
        await exchange.result({"protocolVersion": "1999-12-31", "capabilities": {}})

    async with raw.running(raw.RawServer(handshake=True)) as server:
        server.on["initialize"] = ancient
        with pytest.raises(UpstreamBadAnswer, match="'a-server' speaks protocol revision '1999-12-31'"):
            await open_session(server.url)


async def test_a_server_that_ignores_discovery_is_greeted_the_old_way(open_session: OpenSession) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server:
        server.on["server/discover"] = faults.hang
        session = await open_session(server.url, timeout=2.0)
        assert session.protocol_version == raw.HANDSHAKE


async def test_opening_ends_at_its_timeout(open_session: OpenSession) -> None:
    async with raw.running() as server:
        server.on |= {"server/discover": faults.hang, "initialize": faults.hang}
        async with asyncio.timeout(10):
            with pytest.raises(UpstreamTimeout, match="'a-server'"):
                await open_session(server.url, timeout=0.2)


async def test_a_list_without_end_is_cut(open_session: OpenSession) -> None:
    async def another_page(exchange: raw.Exchange) -> None:
        await exchange.result({"tools": raw.TOOLS, "nextCursor": "again"})

    async with raw.running() as server:
        server.on["tools/list"] = another_page
        session = await open_session(server.url)
        with pytest.raises(UpstreamError, match="more than 100 pages"):
            await session.list_tools(soon(30))
