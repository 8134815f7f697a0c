"""Finds out where a user authorises a connection: from the server's refusal to its authorization server (RFC 9728, RFC 8414).

Nothing here is believed because it was published: the resource must be the server's own, the issuer must be the one that was asked,
and PKCE with S256 must be supported.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url
from pydantic import BaseModel, Field, ValidationError, model_validator

from auralink.mcp.oauth.errors import DiscoveryFailed
from auralink.mcp.oauth.http import OAuthHttp

_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE)
RESOURCE_WELL_KNOWN = "/.well-known/oauth-protected-resource"
SERVER_WELL_KNOWN = "/.well-known/oauth-authorization-server"
OPENID_WELL_KNOWN = "/.well-known/openid-configuration"


class _Published(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _omit_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class ProtectedResource(_Published):
    """What the MCP server says of itself (RFC 9728 §2)."""

    resource: str
    authorization_servers: list[str] = Field(min_length=1)
    scopes_supported: list[str] | None = None


class AuthorizationServer(_Published):
    """What the authorization server says of itself (RFC 8414 §2)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None = None
    scopes_supported: list[str] = Field(default_factory=list)
    code_challenge_methods_supported: list[str] = Field(default_factory=list)
    token_endpoint_auth_methods_supported: list[str] = Field(default_factory=lambda: ["client_secret_basic"])
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, slots=True)
class Challenge:
    """The parts of a `WWW-Authenticate` header that lead to an authorization."""

    resource_metadata: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where and for what a user is to authorise a connection. `local`: the server and its authorization server may be on loopback."""

    authority: AuthorizationServer
    resource: str
    scope: str | None
    local: bool


def challenge_of(header: str | None) -> Challenge:
    """What a `WWW-Authenticate` header says (RFC 6750 §3, RFC 9728 §5.1)."""
    found = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(header or "")}
    return Challenge(found.get("resource_metadata"), found.get("scope"))


async def discover(http: OAuthHttp, server: str, endpoint: str, challenge: Challenge, *, local: bool) -> Discovery:
    """Discovers what protects an MCP server's endpoint.

    Raises:
        DiscoveryFailed: nothing usable is published; the message names what is missing.
        AuthorizationServerFailed, EgressRefused: an address that was published cannot or must not be reached.
    """
    protected = await _protected_resource(http, endpoint, challenge, local=local)
    origin = urlunsplit((*urlsplit(endpoint)[:2], "", "", ""))
    issuer = protected.authorization_servers[0] if protected else origin
    authority = await _authorization_server(http, server, issuer, local=local)
    if "S256" not in authority.code_challenge_methods_supported:
        raise DiscoveryFailed(f"the authorization server {issuer[:200]} of MCP server {server!r} does not support PKCE with S256")
    for url in (authority.authorization_endpoint, authority.token_endpoint):
        await http.check(url, local=local)
    resource = protected.resource if protected else resource_url_from_server_url(endpoint)
    return Discovery(authority, resource, _scope(challenge, protected, authority), local)


async def _protected_resource(http: OAuthHttp, endpoint: str, challenge: Challenge, *, local: bool) -> ProtectedResource | None:
    """The server's metadata, from where its refusal says or else from its well-known places; None from a server that has none,
    which is its own authorization server (2025-03-26)."""
    for url in filter(None, (challenge.resource_metadata, *_well_known(RESOURCE_WELL_KNOWN, endpoint))):
        try:
            found = ProtectedResource.model_validate(await http.find(url, local=local))
        except ValidationError:
            continue
        if not check_resource_allowed(resource_url_from_server_url(endpoint), found.resource):
            raise DiscoveryFailed(f"{url[:200]} is about {found.resource[:200]!r} and not about the MCP server at {endpoint}")
        return found
    return None


async def _authorization_server(http: OAuthHttp, server: str, issuer: str, *, local: bool) -> AuthorizationServer:
    path = urlsplit(issuer).path.rstrip("/")
    urls = [*_well_known(SERVER_WELL_KNOWN, issuer)[:1], *_well_known(OPENID_WELL_KNOWN, issuer)[:1]]
    if path:
        urls.append(issuer.rstrip("/") + OPENID_WELL_KNOWN)
    for url in urls:
        try:
            found = AuthorizationServer.model_validate(await http.find(url, local=local))
        except ValidationError:
            continue
        if found.issuer.rstrip("/") != issuer.rstrip("/"):
            raise DiscoveryFailed(f"{url[:200]} names the issuer {found.issuer[:200]!r} and not {issuer[:200]!r}")
        return found
    raise DiscoveryFailed(
        f"MCP server {server!r} asks for OAuth, but {issuer[:200]} publishes no authorization server metadata (RFC 8414); "
        "connect with credentials instead, if the server takes any"
    )


def _well_known(suffix: str, url: str) -> list[str]:
    """The well-known addresses for a URL: with its path behind the suffix, then for its origin."""
    scheme, host, path, _, _ = urlsplit(url)
    path = path.rstrip("/")
    return [f"{scheme}://{host}{suffix}{tail}" for tail in dict.fromkeys((path, ""))]


def _scope(challenge: Challenge, protected: ProtectedResource | None, authority: AuthorizationServer) -> str | None:
    """What to ask for: what the refusal names, else what the server lists; with it the right to refresh, where that is a scope."""
    scope = challenge.scope
    if scope is None and protected is not None and protected.scopes_supported:
        scope = " ".join(protected.scopes_supported)
    if scope and "offline_access" in authority.scopes_supported and "offline_access" not in scope.split():
        scope += " offline_access"
    return scope or None
