"""From a server's refusal to its authorization server, over real sockets; nothing that is published is taken on trust."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from auralink.core.egress import EgressGuard, EgressRefused
from auralink.core.errors import AuralinkError
from auralink.mcp.oauth.discovery import Challenge, Discovery, challenge_of, discover
from auralink.mcp.oauth.errors import AuthorizationServerFailed, DiscoveryFailed
from auralink.mcp.oauth.http import MAX_BYTES, OAuthHttp

Pages = dict[str, Any]


@asynccontextmanager
async def site(pages: Pages) -> AsyncIterator[tuple[str, list[str]]]:
    """A web site of these JSON documents (`{url}` in them is its address; a number is a status), and what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        page = pages.get(request.path, 404)
        if isinstance(page, int):
            return web.Response(status=page, headers={"Location": "/elsewhere"} if page == 302 else {})
        return web.json_response(_filled(page, str(request.url.origin())))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def _filled(page: Any, url: str) -> Any:
    if isinstance(page, str):
        return page.replace("{url}", url)
    if isinstance(page, list):
        return [_filled(item, url) for item in page]
    return {name: _filled(value, url) for name, value in page.items()} if isinstance(page, dict) else page


def authority(issuer: str = "{url}", **changes: Any) -> Pages:
    """The metadata of an authorization server."""
    document = {
        "issuer": issuer,
        "authorization_endpoint": "{url}/authorize",
        "token_endpoint": "{url}/token",
        "code_challenge_methods_supported": ["S256"],
    }
    return document | changes


def resource(**changes: Any) -> Pages:
    """The metadata of the MCP server at `/mcp`."""
    return {"resource": "{url}/mcp", "authorization_servers": ["{url}"]} | changes


RESOURCE, AUTHORITY = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"
NOTHING = Challenge()


async def discovered(url: str, challenge: Challenge = NOTHING, *, local: bool = True) -> Discovery:
    """What discovery finds for the MCP server at `/mcp`."""
    http = OAuthHttp(EgressGuard())
    await http.open()
    try:
        return await discover(http, "tests", f"{url}/mcp", challenge, local=local)
    finally:
        await http.close()


async def test_the_place_that_the_refusal_names_comes_first() -> None:
    async with site({"/here": resource(scopes_supported=["a", "b"]), AUTHORITY: authority()}) as (url, asked):
        found = await discovered(url, Challenge(f"{url}/here", None))
        assert (found.resource, found.scope, found.authority.issuer) == (f"{url}/mcp", "a b", url)
        assert asked == ["/here", AUTHORITY]


@pytest.mark.parametrize("place", [f"{RESOURCE}/mcp", RESOURCE])
async def test_else_the_well_known_places_are_looked_at(place: str) -> None:
    async with site({place: resource(), AUTHORITY: authority()}) as (url, _):
        assert (await discovered(url)).resource == f"{url}/mcp"


async def test_a_server_without_metadata_is_its_own_authorization_server() -> None:
    async with site({AUTHORITY: authority()}) as (url, _):
        found = await discovered(url)
        assert (found.resource, found.scope) == (f"{url}/mcp", None)


@pytest.mark.parametrize(
    "place",
    [f"{AUTHORITY}/tenant", "/.well-known/openid-configuration/tenant", "/tenant/.well-known/openid-configuration"],
)
async def test_an_issuer_with_a_path_is_found_in_each_of_its_places(place: str) -> None:
    pages = {RESOURCE: resource(authorization_servers=["{url}/tenant"]), place: authority("{url}/tenant")}
    async with site(pages) as (url, _):
        assert (await discovered(url)).authority.issuer == f"{url}/tenant"


async def test_the_scope_of_the_refusal_wins_and_refreshing_is_asked_for_where_it_is_a_scope() -> None:
    pages = {RESOURCE: resource(scopes_supported=["all"]), AUTHORITY: authority(scopes_supported=["offline_access"])}
    async with site(pages) as (url, _):
        assert (await discovered(url, Challenge(None, "read"))).scope == "read offline_access"


async def test_nulls_are_read_as_left_out() -> None:
    pages = {RESOURCE: resource(scopes_supported=None), AUTHORITY: authority(registration_endpoint=None, scopes_supported=None)}
    async with site(pages) as (url, _):
        assert (await discovered(url)).authority.registration_endpoint is None


REFUSED: list[tuple[Pages, type[AuralinkError], str]] = [
    ({RESOURCE: resource()}, DiscoveryFailed, "publishes no authorization server metadata"),
    (
        {RESOURCE: resource(resource="https://other.example/mcp"), AUTHORITY: authority()},
        DiscoveryFailed,
        "not about the MCP server",
    ),
    ({RESOURCE: resource(resource="{url}/mcp2"), AUTHORITY: authority()}, DiscoveryFailed, "not about the MCP server"),
    ({RESOURCE: resource(), AUTHORITY: authority("https://other.example")}, DiscoveryFailed, "names the issuer"),
    ({RESOURCE: resource(), AUTHORITY: authority(code_challenge_methods_supported=["plain"])}, DiscoveryFailed, "PKCE with S256"),
    ({RESOURCE: resource(), AUTHORITY: authority(code_challenge_methods_supported=None)}, DiscoveryFailed, "PKCE with S256"),
    ({RESOURCE: resource(), AUTHORITY: authority(authorization_endpoint="javascript:alert(1)")}, EgressRefused, "absolute URL"),
    (
        {RESOURCE: resource(), AUTHORITY: authority(authorization_endpoint="file:///etc/passwd")},
        EgressRefused,
        "file is not allowed",
    ),
    ({RESOURCE: resource(), AUTHORITY: authority(token_endpoint="http://169.254.169.254/t")}, EgressRefused, "metadata"),
    ({RESOURCE: resource(), AUTHORITY: authority(token_endpoint="http://10.0.0.1/t")}, EgressRefused, "private"),
    ({RESOURCE: resource(), AUTHORITY: authority(token_endpoint="http://1.1.1.1/t")}, DiscoveryFailed, "is not https"),
    ({RESOURCE: resource(authorization_servers=["http://10.0.0.1"])}, EgressRefused, "private"),
    ({RESOURCE: resource(), AUTHORITY: 302, "/elsewhere": authority()}, DiscoveryFailed, "publishes no"),
    ({RESOURCE: 503, AUTHORITY: authority()}, AuthorizationServerFailed, "HTTP 503"),
    ({RESOURCE: resource(), AUTHORITY: authority(padding="x" * MAX_BYTES)}, AuthorizationServerFailed, "more than 256 KiB"),
    ({RESOURCE: resource(), AUTHORITY: ["not an object"]}, DiscoveryFailed, "publishes no"),
]


@pytest.mark.parametrize(("pages", "error", "why"), REFUSED)
async def test_what_is_published_is_not_taken_on_trust(pages: Pages, error: type[AuralinkError], why: str) -> None:
    async with site(pages) as (url, asked):
        with pytest.raises(error, match=why):
            await discovered(url)
        assert "/elsewhere" not in asked


async def test_an_untrusted_server_sends_nobody_to_loopback() -> None:
    async with site({RESOURCE: resource(), AUTHORITY: authority()}) as (url, asked):
        with pytest.raises(EgressRefused, match="loopback"):
            await discovered(url, local=False)
        assert asked == []


@pytest.mark.parametrize(
    ("header", "metadata", "scope"),
    [
        (None, None, None),
        ("Bearer", None, None),
        ('Bearer realm="x, y", resource_metadata="https://a/b?c=d,e", scope="one two"', "https://a/b?c=d,e", "one two"),
        ("Bearer resource_metadata=https://a/b, error=invalid_token", "https://a/b", None),
        ('Basic realm="x", Bearer Resource_Metadata = "https://a"', "https://a", None),
    ],
)
def test_a_challenge_is_read_however_it_is_written(header: str | None, metadata: str | None, scope: str | None) -> None:
    assert challenge_of(header) == Challenge(metadata, scope)
