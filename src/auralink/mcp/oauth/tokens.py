"""The token endpoint: a code or a refresh token in, tokens out (RFC 6749 §4.1.3, §6; RFC 7636 §4.5; RFC 8707 §2.2)."""

import base64
import time
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote_plus

import orjson

from auralink.core.redaction import Redactor
from auralink.core.secret import Secret
from auralink.mcp.oauth.errors import AuthorizationServerFailed, TokenRefused
from auralink.mcp.oauth.http import OAuthHttp
from auralink.mcp.oauth.schemas import Terms

MAX_TOKEN = 64 * 1024
SHOWN = 200
TEMPORARY = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What the token endpoint gave; `expires_at` is Unix time, None where the server does not say."""

    access: Secret
    refresh: Secret | None
    expires_at: float | None

    def sealed_form(self) -> Secret:
        """All of it as one secret, for the vault."""
        refresh = None if self.refresh is None else self.refresh.reveal()
        return Secret(orjson.dumps({"access": self.access.reveal(), "refresh": refresh, "expires_at": self.expires_at}).decode())

    @classmethod
    def opened(cls, sealed_form: Secret) -> "TokenSet":
        """What `sealed_form` made."""
        document = orjson.loads(sealed_form.reveal())
        refresh = document["refresh"]
        return cls(Secret(document["access"]), None if refresh is None else Secret(refresh), document["expires_at"])


async def exchange(http: OAuthHttp, terms: Terms, secret: Secret | None, *, code: Secret, verifier: Secret) -> TokenSet:
    """The tokens for an authorization code.

    Raises:
        TokenRefused: the server does not take the code.
        AuthorizationServerFailed: it does not answer, or not with tokens.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": terms.redirect_uri,
        "code_verifier": verifier.reveal(),
    }
    return await _ask(http, terms, secret, form, Redactor(filter(None, (code, verifier, secret))), None)


async def refresh(http: OAuthHttp, terms: Terms, secret: Secret | None, refresh_token: Secret) -> TokenSet:
    """The next tokens; where the server does not rotate refresh tokens, with the same one. Raises as `exchange`."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    return await _ask(http, terms, secret, form, Redactor(filter(None, (refresh_token, secret))), refresh_token)


async def _ask(
    http: OAuthHttp, terms: Terms, secret: Secret | None, form: dict[str, str], redactor: Redactor, old_refresh: Secret | None
) -> TokenSet:
    form["resource"] = terms.resource
    headers: dict[str, str] = {}
    if terms.auth_method == "client_secret_basic" and secret is not None:
        pair = f"{quote_plus(terms.client_id)}:{quote_plus(secret.reveal())}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = terms.client_id
        if terms.auth_method == "client_secret_post" and secret is not None:
            form["client_secret"] = secret.reveal()
    status, answer = await http.post_form(terms.token_endpoint, form, headers=headers, local=terms.local)
    if status == 200 and answer is not None:
        return _tokens(terms, answer, old_refresh)
    raise _refusal(terms, status, answer or {}, redactor)


def _tokens(terms: Terms, answer: dict[str, Any], old_refresh: Secret | None) -> TokenSet:
    access, refresh_token = answer.get("access_token"), answer.get("refresh_token")
    if not _is_token(access) or str(answer.get("token_type", "")).lower() != "bearer":
        raise AuthorizationServerFailed(f"the authorization server {terms.issuer[:SHOWN]} answered without a bearer token")
    return TokenSet(
        Secret(access), Secret(refresh_token) if _is_token(refresh_token) else old_refresh, _expiry(answer.get("expires_in"))
    )


def _is_token(value: Any) -> TypeGuard[str]:
    """Whether a value can stand in an `Authorization` header: visible ASCII, not too long."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN and all("!" <= character <= "~" for character in value)


def _expiry(expires_in: Any) -> float | None:
    """Servers write the number also as a string."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        return None
    return time.time() + seconds if 0 <= seconds < 2**31 else None


def _refusal(terms: Terms, status: int, answer: dict[str, Any], redactor: Redactor) -> TokenRefused | AuthorizationServerFailed:
    error = redactor.text(str(answer.get("error") or f"HTTP {status}"))[:SHOWN]
    description = redactor.text(str(answer.get("error_description") or ""))[:SHOWN]
    if not isinstance(answer.get("error"), str) or error in TEMPORARY:
        return AuthorizationServerFailed(
            f"the authorization server {terms.issuer[:SHOWN]} gave no tokens: {error} {description}".strip()
        )
    return TokenRefused(f"the authorization server {terms.issuer[:SHOWN]} refused: {error} {description}".strip(), error=error)
