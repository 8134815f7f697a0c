"""Bearer tokens of the embedded mode (HS256), and everything that must not pass for one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralink.auth import tokens
from auralink.auth.errors import TokenExpired, TokenInvalid, Unauthenticated
from auralink.auth.tokens import TokenVerifier, issue_token
from auralink.core.errors import StartupError
from auralink.core.secret import Secret

SECRET = Secret("a secret of more than thirty-two bytes, for tests")
pytestmark = pytest.mark.promise("P-JWT")
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Clock:
    """Unix time that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def verifier(**options: Any) -> TokenVerifier:
    return TokenVerifier(secret=SECRET, **options)


def good(**changes: Any) -> dict[str, Any]:
    """Claims that pass, with `changes`; a change to `None` takes the claim out."""
    claims = {"iss": "auralink", "aud": "auralink", "sub": "ann", "exp": int(time.time()) + 600} | changes
    return {name: value for name, value in claims.items() if value is not None}


TEMPLATE = good()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: Any, header: Any = None, *, secret: Secret = SECRET) -> str:
    """A token signed as HS256 whatever its header and claims say, as a forger with the key could."""
    parts = [header if header is not None else {"alg": "HS256", "typ": "JWT"}, claims]
    body = ".".join(encoded(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in parts)
    return f"{body}.{encoded(hmac.digest(secret.reveal().encode(), body.encode(), hashlib.sha256))}"


async def refused(token: str, error: type[Unauthenticated] = TokenInvalid, **options: Any) -> Unauthenticated:
    with pytest.raises(error) as caught:
        await verifier(**options).verify(token)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"].startswith('Bearer realm="auralink"')
    return caught.value


async def test_an_issued_token_names_its_principal() -> None:
    user = uuid4()
    token = issue_token(SECRET, subject=str(user), role="admin", ttl=timedelta(hours=1), email="a@example.org", scopes=["x", "y"])
    principal = await verifier().verify(token)
    assert (principal.user_id, principal.subject, principal.issuer) == (user, str(user), "auralink")
    assert (principal.role, principal.email, principal.scopes) == ("admin", "a@example.org", {"x", "y"})
    assert (principal.run, principal.attempt) == (None, None)


async def test_a_token_without_role_scope_and_email_is_a_plain_user() -> None:
    principal = await verifier().verify(signed(good()))
    assert (principal.role, principal.scopes, principal.email) == ("user", frozenset(), None)


@pytest.mark.parametrize("role", ["authenticated", "ADMIN", "admin ", ["admin"], {"admin": True}, 1, True])
async def test_only_the_role_admin_itself_makes_an_admin(role: Any) -> None:
    assert (await verifier().verify(signed(good(role=role)))).role == "user"


async def test_claims_of_a_run_in_a_users_token_are_nothing() -> None:
    principal = await verifier().verify(signed(good(run=str(uuid4()), attempt=1)))
    assert (principal.run, principal.attempt) == (None, None)


@pytest.mark.parametrize("claim", ["sub", "exp", "iss", "aud"])
async def test_a_token_without_a_required_claim_is_refused_by_name(claim: str) -> None:
    error = await refused(signed(good(**{claim: None})))
    assert claim in error.message or claim in {"iss", "aud"}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "someone"},
        {"iss": ["auralink"]},
        {"iss": ""},
        {"aud": "someone"},
        {"aud": []},
        {"aud": ["a", 1]},
        {"aud": {"auralink": 1}},
        {"aud": ""},
        {"sub": ""},
        {"sub": 1},
        {"sub": ["ann"]},
        {"sub": "a" * 256},
        {"sub": "ann\0"},
        {"sub": "ann\n"},
        {"sub": "\ud800"},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": [9999999999]},
        {"exp": 10**30},
        {"exp": -1},
        {"nbf": 9999999999},
        {"nbf": "0"},
        {"iat": 9999999999},
        {"iat": True},
        {"scope": ["a"]},
        {"scope": "a\0b"},
        {"email": 5},
        {"email": "a\r\nb"},
    ],
    ids=str,
)
async def test_a_claim_of_the_wrong_kind_or_value_is_refused(changes: dict[str, Any]) -> None:
    await refused(signed(good(**changes)))


async def test_the_audience_may_be_one_of_several() -> None:
    assert await verifier().verify(signed(good(aud=["other", "auralink"])))


async def test_issuer_and_audience_are_the_configured_ones() -> None:
    ours = verifier(issuer="https://id.example", audience="api")
    assert (await ours.verify(signed(good(iss="https://id.example", aud="api")))).issuer == "https://id.example"
    await refused(signed(good()), issuer="https://id.example", audience="api")


async def test_a_token_expires_at_exp_plus_leeway_also_out_of_the_cache() -> None:
    clock = Clock()
    ours = verifier(leeway=10, clock=clock)
    token = signed(good(exp=clock.now + 5))
    await ours.verify(token)
    clock.now += 14.9
    await ours.verify(token)
    clock.now += 0.2
    with pytest.raises(TokenExpired) as caught:
        await ours.verify(token)
    assert caught.value.code == "token_expired"
    assert 'error="invalid_token"' in caught.value.headers["WWW-Authenticate"]


async def test_the_leeway_covers_a_clock_that_is_behind() -> None:
    clock = Clock()
    token = signed(good(nbf=clock.now + 20, iat=clock.now + 20))
    await verifier(leeway=30, clock=clock).verify(token)
    await refused(token, leeway=10, clock=clock)


HOSTILE_HEADERS: list[Any] = [
    {"alg": "none"},
    {"alg": "None"},
    {"alg": ""},
    {"alg": None},
    {"alg": ["HS256"]},
    {"alg": "hs256"},
    {"alg": "HS512"},
    {"alg": "RS256"},
    {"alg": "ES256"},
    {"alg": "EdDSA"},
    {"typ": "JWT"},
    {"alg": "HS256", "crit": ["exp"]},
    {"alg": "HS256", "crit": []},
    {"alg": "HS256", "crit": ["b64"], "b64": True},
    {"alg": "HS256", "b64": False},
    {"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}},
    {"alg": "HS256", "jku": "https://example.org/keys"},
    {"alg": "HS256", "x5u": "https://example.org/cert"},
    {"alg": "HS256", "x5c": ["AA"]},
    {"alg": "HS256", "jwk": None},
    {"alg": "HS256", "kid": 7},
    {"alg": "HS256", "kid": None},
    {"alg": "HS256", "kid": ["a"]},
    {"alg": "HS256", "kid": ""},
    {"alg": "HS256", "kid": "k" * 201},
    {"alg": "HS256", "kid": "../../dev/null"},
    {"alg": "HS256", "kid": "/dev/null"},
    {"alg": "HS256", "kid": "a' OR '1'='1"},
    {"alg": "HS256", "kid": "k\0"},
    {"alg": "HS256", "kid": "key|id"},
    {"alg": "HS256", "kid": "клю"},
    {"alg": "HS256", "typ": "dpop+jwt"},
    {"alg": "HS256", "typ": "logout+jwt"},
    {"alg": "HS256", "typ": 1},
    ["alg", "HS256"],
    "HS256",
    b"{",
    b"\xff",
    b"",
    b"[" * 20_000,
]


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=lambda h: str(h)[:60])
async def test_a_hostile_header_is_refused_although_the_signature_fits(header: Any) -> None:
    await refused(signed(good(), header))


@pytest.mark.parametrize("header", [{"kid": "main-1"}, {"kid": "9PNN/QJ+tq="}, {"typ": "at+jwt"}, {"typ": "jwt"}, {}], ids=str)
async def test_an_ordinary_header_passes(header: dict[str, str]) -> None:
    assert await verifier().verify(signed(good(), {"alg": "HS256"} | header))


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "a.b", "é.é.é", "a.b.c.d.e", "\ud800", "eyJhbGciOiJIUzI1NiJ9..", "x" * 20_000, "null", "{}"],
    ids=lambda t: ascii(t)[:30],
)
async def test_what_is_not_a_token_is_refused(token: str) -> None:
    await refused(token)


@pytest.mark.parametrize(
    "forge",
    [
        lambda t: t + "=",
        lambda t: t + ".",
        lambda t: " " + t,
        lambda t: t + "\n",
        lambda t: t.rsplit(".", 1)[0] + ".",
        lambda t: t.rsplit(".", 1)[0],
        lambda t: t.replace(t.split(".")[1], encoded(json.dumps(good(sub="bob")).encode())),
        lambda t: jwt.encode(good(), "another secret of more than 32 bytes!", algorithm="HS256"),
        lambda t: jwt.encode(good(), SECRET.reveal(), algorithm="HS384"),
        lambda t: jwt.encode(good(), None, algorithm="none"),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_forged_token_is_refused(forge: Callable[[str], str]) -> None:
    await refused(forge(signed(good())))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 10_000, b'{"exp":' + b"9" * 5000 + b"}"])
async def test_a_signed_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    await refused(signed(payload))


@patient
@given(st.integers(0, 5000), st.integers(1, 127))
async def test_no_changed_character_passes(position: int, change: int) -> None:
    token = signed(TEMPLATE)
    position %= len(token)
    forged = token[:position] + chr(ord(token[position]) ^ change) + token[position + 1 :]
    with pytest.raises(Unauthenticated):
        await verifier().verify(forged)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@patient
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "b64", "zip"]), json_values),
    st.dictionaries(st.sampled_from(["sub", "exp", "iss", "aud", "nbf", "iat", "jti", "role", "scope", "email"]), json_values),
)
async def test_whatever_is_signed_gives_a_principal_or_a_clean_refusal(header: dict[str, Any], claims: dict[str, Any]) -> None:
    for token in (signed(good() | claims, {"alg": "HS256"} | header), signed(good() | claims)):
        with suppress(Unauthenticated):
            assert (await verifier().verify(token)).role in {"user", "admin"}


async def test_a_verified_token_is_believed_for_a_minute_without_being_verified_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, decoded = Clock(), []
    decode = jwt.decode
    monkeypatch.setattr(tokens.jwt, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    ours = verifier(clock=clock)
    token = signed(good())
    first = await ours.verify(token)
    assert await ours.verify(token) is first
    assert len(decoded) == 1
    clock.now += tokens.CACHE_SECONDS + 1
    assert await ours.verify(token) == first
    assert len(decoded) == 2


async def test_the_cache_is_bounded_keeps_what_is_used_and_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
    ours = verifier()
    made = [signed(good(sub=f"user-{n}")) for n in range(5)]
    for token in made[:3]:
        await ours.verify(token)
    kept = await ours.verify(made[0])
    for token in made[3:]:
        await ours.verify(token)
    assert len(ours._verified) == 3
    assert await ours.verify(made[0]) is kept
    assert not any(token.encode() in key for key in ours._verified for token in made)


async def test_a_refused_token_is_not_cached() -> None:
    ours = verifier()
    with pytest.raises(TokenInvalid):
        await ours.verify(signed(good(aud="other")))
    assert not ours._verified


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "JWT_SECRET"),
        ({"secret": SECRET, "jwks_url": "https://id.example/keys"}, "JWT_JWKS_URL"),
        ({"secret": Secret("short")}, "JWT_SECRET"),
        ({"secret": Secret("")}, "JWT_SECRET"),
        ({"secret": SECRET, "leeway": 61}, "60"),
        ({"secret": SECRET, "leeway": -1}, "60"),
        ({"secret": SECRET, "issuer": ""}, "JWT_ISSUER"),
        ({"secret": SECRET, "audience": ""}, "JWT_AUDIENCE"),
    ],
    ids=str,
)
def test_an_unsafe_setting_stops_the_start_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(StartupError, match=named):
        TokenVerifier(**options)


def test_a_secret_of_exactly_32_bytes_is_enough() -> None:
    TokenVerifier(secret=Secret("é" * 16))


@pytest.mark.parametrize("subject", ["", "a" * 256, "a\0"])
def test_a_token_is_not_issued_to_a_name_that_would_be_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="subject"):
        issue_token(SECRET, subject=subject, role="user", ttl=timedelta(minutes=1))


def test_a_token_is_not_issued_without_a_lifetime_or_with_a_weak_secret() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        issue_token(SECRET, subject="ann", role="user", ttl=timedelta(0))
    with pytest.raises(StartupError):
        issue_token(Secret("weak"), subject="ann", role="user", ttl=timedelta(minutes=1))


async def test_a_public_key_is_no_shared_secret() -> None:
    """The classic confusion: HS256 with the provider's public key as secret, against a verifier that has a JWKS."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = Secret(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
    ours = TokenVerifier(jwks_url="https://id.example/keys")
    with pytest.raises(TokenInvalid, match="algorithm"):
        await ours.verify(signed(good(), secret=pem))
    await ours.close()
