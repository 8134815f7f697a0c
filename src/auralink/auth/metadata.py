"""This service as an OAuth protected resource: what an MCP client reads to learn where its user gets a token (RFC 9728).

The authorization server is the identity provider whose tokens are accepted (`JWT_ISSUER`), where that is a URL. Tokens are bound to
an audience; where `JWT_AUDIENCE` is an address above the one that is asked for, that is the resource to name in the request for a
token (RFC 8707), so that the token gets the audience that is checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from auralink.core.http import JSONBytes

WELL_KNOWN = "/.well-known/oauth-protected-resource"
NAME = "AuraLink AI Core"
SCOPES: Sequence[str] = ()
"""Scopes that a token needs to be let in: none; what is not listed is left out (RFC 9728 §3.2)."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """Describes the resources of this service."""

    issuer: str
    audience: str

    def document(self, resource: str) -> dict[str, Any]:
        """The metadata of one resource, given by its URL."""
        document: dict[str, Any] = {
            "resource": self.audience if _covers(self.audience, resource) else resource,
            "bearer_methods_supported": ["header"],
            "resource_name": NAME,
        }
        if _is_url(self.issuer):
            document["authorization_servers"] = [self.issuer]
        if SCOPES:
            document["scopes_supported"] = list(SCOPES)
        return document


@router.get(WELL_KNOWN)
@router.get(WELL_KNOWN + "/mcp")
@router.get(WELL_KNOWN + "/mcp/{connection}")
async def protected_resource(request: Request) -> Response:
    """The metadata of `/mcp`, of one connection under it, or, without a path, of `/mcp` as well."""
    metadata: ResourceMetadata = request.app.state.resource_metadata
    path = request.url.path.removeprefix(WELL_KNOWN) or "/mcp"
    headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
    return JSONBytes(metadata.document(base_of(request) + path), headers=headers)


def base_of(request: Request) -> str:
    """The address under which clients know the service (`app.state.public_url`), else the one that this client used."""
    public_url: str | None = request.app.state.public_url
    return public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("https", "http") and bool(parts.netloc)


def _covers(audience: str, resource: str) -> bool:
    """Whether the audience is the address of the resource or of something above it."""
    wanted, given = urlsplit(resource), urlsplit(audience)
    if not _is_url(audience) or (wanted.scheme, wanted.netloc) != (given.scheme, given.netloc):
        return False
    return f"{wanted.path.rstrip('/')}/".startswith(f"{given.path.rstrip('/')}/")
