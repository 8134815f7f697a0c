"""Who this service is towards an authorization server: the client that the user names, a client id metadata document, or a client
that the server registers (RFC 7591), in that order."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from auralink.core.secret import Secret
from auralink.mcp.oauth.discovery import AuthorizationServer
from auralink.mcp.oauth.errors import DiscoveryFailed
from auralink.mcp.oauth.http import OAuthHttp
from auralink.mcp.oauth.schemas import AuthMethod, Registration, Site

NAME = "AuraLink AI Core"
GRANT_TYPES = ["authorization_code", "refresh_token"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client id and how it proves itself at the token endpoint."""

    client_id: str
    secret: Secret | None
    auth_method: AuthMethod
    registration: Registration


class _Registered(BaseModel):
    client_id: str
    client_secret: str | None = None
    token_endpoint_auth_method: str | None = None


def given_client(authority: AuthorizationServer, client_id: str, secret: Secret | None) -> Client:
    """A client that the user has registered by other means, with `Site.redirect_uri`."""
    return Client(client_id, secret, _method(authority, None, has_secret=secret is not None), "given")


async def client_for(http: OAuthHttp, authority: AuthorizationServer, site: Site, *, scope: str | None, local: bool) -> Client:
    """The metadata document where the server takes it, else a new registration.

    Raises:
        DiscoveryFailed: the server takes neither, or has refused.
        AuthorizationServerFailed, EgressRefused: the registration endpoint cannot or must not be reached.
    """
    if site.document_url and authority.client_id_metadata_document_supported:
        return Client(site.document_url, None, "none", "document")
    if authority.registration_endpoint is None:
        raise DiscoveryFailed(
            f"the authorization server {authority.issuer[:200]} registers no client by itself; register one there with the redirect "
            f"address {site.redirect_uri}, and give client_id (and client_secret) to POST …/oauth/start"
        )
    public = "none" in authority.token_endpoint_auth_methods_supported
    request = {**metadata(site), "token_endpoint_auth_method": "none" if public else _method(authority, None, has_secret=True)}
    if scope:
        request["scope"] = scope
    status, answer = await http.post_json(authority.registration_endpoint, request, local=local)
    if status not in (200, 201):
        reason = str((answer or {}).get("error_description") or (answer or {}).get("error") or "")[:200]
        raise DiscoveryFailed(f"{authority.issuer[:200]} refused to register a client (HTTP {status}) {reason}".strip())
    return _registered(authority, answer)


def metadata(site: Site) -> dict[str, Any]:
    """What a client says of itself (RFC 7591 §2); the document at `Site.document_url` has its `client_id` besides."""
    return {
        "client_name": NAME,
        "client_uri": site.base,
        "redirect_uris": [site.redirect_uri],
        "grant_types": GRANT_TYPES,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web" if site.base.startswith("https://") else "native",
    }


def _registered(authority: AuthorizationServer, answer: dict[str, Any] | None) -> Client:
    try:
        client = _Registered.model_validate({k: v for k, v in (answer or {}).items() if v not in (None, "")})
    except ValidationError:
        raise DiscoveryFailed(f"{authority.issuer[:200]} answered a registration without a client_id") from None
    secret = Secret(client.client_secret) if client.client_secret else None
    method = _method(authority, client.token_endpoint_auth_method, has_secret=secret is not None)
    return Client(client.client_id, secret, method, "dynamic")


def _method(authority: AuthorizationServer, assigned: str | None, *, has_secret: bool) -> AuthMethod:
    """How a client proves itself: as the server assigned, else by HTTP Basic where the server takes that."""
    if not has_secret or assigned == "none":
        return "none"
    supported = [assigned] if assigned else authority.token_endpoint_auth_methods_supported
    if "client_secret_basic" in supported:
        return "client_secret_basic"
    if "client_secret_post" in supported:
        return "client_secret_post"
    raise DiscoveryFailed(
        f"the authorization server {authority.issuer[:200]} wants clients to prove themselves by {', '.join(supported)[:200]}; "
        "client_secret_basic, client_secret_post and none are what this service can"
    )
