"""Tokens of an identity provider: its keys are fetched over a real socket, kept through outages, and never chosen by a token."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from auralink.auth import jwks
from auralink.auth.errors import KeysUnavailable, TokenInvalid
from auralink.auth.jwks import KeySet
from auralink.auth.tokens import TokenVerifier
from auralink.core.errors import StartupError

pytestmark = pytest.mark.promise("P-JWT")

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
AS_JWK = {"RS256": RSAAlgorithm.to_jwk, "ES256": ECAlgorithm.to_jwk, "EdDSA": OKPAlgorithm.to_jwk}


def public(algorithm: str, kid: str | None = None, **more: Any) -> dict[str, Any]:
    jwk = json.loads(AS_JWK[algorithm](PRIVATE[algorithm].public_key()))
    return {k: v for k, v in ({"kid": kid} | jwk | more).items() if v is not None and (k != "key_ops" or k in more)}


def token(algorithm: str, kid: str | None, *, key: Any = None, **claims: Any) -> str:
    body = {"iss": "idp", "aud": "api", "sub": "ann", "exp": int(time.time()) + 600} | claims
    return jwt.encode(body, key or PRIVATE[algorithm], algorithm=algorithm, headers={"kid": kid} if kid else None)


class Provider:
    """An identity provider whose answer the test sets, and which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Any = {"keys": [public("RS256", "r"), public("ES256", "e"), public("EdDSA", "d")]}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def keys(self, _request: web.Request) -> web.Response:
        self.asked += 1
        self.arrived.set()
        await self.gate.wait()
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body, status=self.status, headers=self.headers)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/keys", provider.keys)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("/keys"))  # type: ignore[attr-defined]
        yield provider


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(provider: Provider, clock: Clock) -> AsyncIterator[KeySet]:
    keys = KeySet(provider.url, clock=clock)
    yield keys
    await keys.close()


@pytest.fixture
async def verifier(provider: Provider) -> AsyncIterator[TokenVerifier]:
    verifier = TokenVerifier(jwks_url=provider.url, issuer="idp", audience="api")
    yield verifier
    await verifier.close()


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")])
async def test_a_token_of_each_algorithm_is_verified(verifier: TokenVerifier, algorithm: str, kid: str) -> None:
    assert (await verifier.verify(token(algorithm, kid))).subject == "ann"


async def test_one_fetch_serves_many_tokens(verifier: TokenVerifier, provider: Provider) -> None:
    await asyncio.gather(*(verifier.verify(token("EdDSA", "d", sub=f"user-{n}")) for n in range(20)))
    assert provider.asked == 1


async def test_a_token_without_kid_uses_the_only_key_of_its_algorithm(verifier: TokenVerifier, provider: Provider) -> None:
    await verifier.verify(token("ES256", None))
    provider.answer["keys"].append(public("RS256", "r2"))
    other = TokenVerifier(jwks_url=provider.url, issuer="idp", audience="api")
    with pytest.raises(TokenInvalid):
        await other.verify(token("RS256", None))
    await other.close()


async def test_a_key_of_another_algorithm_or_owner_does_not_verify(verifier: TokenVerifier) -> None:
    for forged in (
        token("ES256", "r"),
        token("RS256", "e"),
        token("RS256", "r", key=rsa.generate_private_key(65537, 2048)),
        token("EdDSA", "d", key=ed25519.Ed25519PrivateKey.generate()),
        token("EdDSA", "d", iss="other"),
        token("EdDSA", "d", aud="other"),
    ):
        with pytest.raises(TokenInvalid):
            await verifier.verify(forged)


async def test_the_providers_public_key_is_no_shared_secret(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenInvalid, match="algorithm"):
        await verifier.verify(jwt.encode({"sub": "ann"}, "x" * 64, algorithm="HS256", headers={"kid": "r"}))


async def test_an_outage_keeps_the_keys_and_is_retried_with_growing_pauses(
    keys: KeySet, provider: Provider, clock: Clock
) -> None:
    await keys.key("r", "RS256")
    provider.status = 500
    clock.now += jwks.FRESH
    for failures, pause in enumerate(jwks.BACKOFF, 1):
        assert await keys.key("r", "RS256")
        await keys.settled()
        assert provider.asked == 1 + failures
        clock.now += pause - 0.1
        assert await keys.key("r", "RS256")
        await keys.settled()
        assert provider.asked == 1 + failures
        clock.now += 0.2
    provider.status, provider.answer = 200, {"keys": [public("EdDSA", "new")]}
    await keys.key("r", "RS256")
    await keys.settled()
    assert await keys.key("new", "EdDSA")
    with pytest.raises(TokenInvalid):
        await keys.key("r", "RS256")


async def test_old_keys_answer_at_once_while_new_ones_are_fetched(keys: KeySet, provider: Provider, clock: Clock) -> None:
    await keys.key("r", "RS256")
    provider.gate.clear()
    clock.now += jwks.FRESH
    assert await keys.key("r", "RS256")
    provider.gate.set()
    await keys.settled()
    assert provider.asked == 2


async def test_a_flood_of_unknown_key_ids_causes_one_fetch_a_minute(keys: KeySet, provider: Provider, clock: Clock) -> None:
    await keys.key("r", "RS256")
    for minute in range(3):
        results = await asyncio.gather(*(keys.key(f"unknown-{n}", "RS256") for n in range(200)), return_exceptions=True)
        assert all(isinstance(result, TokenInvalid) for result in results)
        for n in range(50):
            with pytest.raises(TokenInvalid):
                await keys.key(f"later-{n}", "RS256")
        assert provider.asked == 2 + minute
        clock.now += jwks.FORCED_INTERVAL


async def test_a_new_key_is_found_by_all_who_wait_for_the_one_fetch(keys: KeySet, provider: Provider) -> None:
    await keys.key("r", "RS256")
    provider.answer = {"keys": [public("EdDSA", "new")]}
    found = await asyncio.gather(*(keys.key("new", "EdDSA") for _ in range(20)))
    assert len(set(map(id, found))) == 1
    assert provider.asked == 2


async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_the_others(keys: KeySet, provider: Provider) -> None:
    provider.gate.clear()
    first = asyncio.create_task(keys.key("r", "RS256"))
    second = asyncio.create_task(keys.key("r", "RS256"))
    await provider.arrived.wait()
    first.cancel()
    provider.gate.set()
    assert await second
    assert provider.asked == 1


async def test_without_any_keys_the_answer_is_503_and_the_provider_is_left_in_peace(
    keys: KeySet, provider: Provider, clock: Clock
) -> None:
    provider.status = 503
    for _ in range(10):
        with pytest.raises(KeysUnavailable) as caught:
            await keys.key("r", "RS256")
        assert (caught.value.status, "Retry-After" in caught.value.headers) == (503, True)
    assert provider.asked == 1
    provider.status = 200
    clock.now += jwks.BACKOFF[0]
    assert await keys.key("r", "RS256")


async def test_a_provider_that_is_not_there_is_503(clock: Clock, unused_tcp_port: int) -> None:
    keys = KeySet(f"http://127.0.0.1:{unused_tcp_port}/keys", clock=clock)
    with pytest.raises(KeysUnavailable):
        await keys.key("r", "RS256")
    await keys.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"\xff",
        b"[" * 50_000,
        [],
        {},
        {"keys": None},
        {"keys": []},
        {"keys": ["x", 1, None]},
        {"keys": {"r": 1}},
        {"keys": [public("RS256", "r")], "pad": "x" * jwks.MAX_BYTES},
    ],
    ids=lambda a: str(a)[:40],
)
async def test_an_answer_that_is_no_key_set_leaves_no_keys(keys: KeySet, provider: Provider, answer: Any) -> None:
    provider.answer = answer
    with pytest.raises(KeysUnavailable):
        await keys.key("r", "RS256")


async def test_a_redirect_is_not_followed(keys: KeySet, provider: Provider) -> None:
    provider.status, provider.headers = 302, {"Location": "/keys"}
    with pytest.raises(KeysUnavailable):
        await keys.key("r", "RS256")
    assert provider.asked == 1


UNUSABLE = [
    public("RS256", "k", use="enc"),
    public("RS256", "k", key_ops=["encrypt"]),
    public("RS256", "k", key_ops=5),
    public("RS256", "k", alg="RS512"),
    public("RS256", "k", alg="HS256"),
    public("RS256", "k", n=5),
    public("RS256", "k", n="!"),
    public("RS256", "k", e=None),
    public("RS256", "k", kty=["RSA"]),
    json.loads(RSAAlgorithm.to_jwk(RSA)) | {"kid": "k", "key_ops": ["verify"]},
    json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key())) | {"kid": "k", "key_ops": ["verify"]},
    public("RS256", "k", kty="oct", k=base64.urlsafe_b64encode(b"k" * 32).decode()),
    public("ES256", "k", crv="P-384"),
    public("ES256", "k", x="AAAA"),
    public("EdDSA", "k", crv="X25519"),
    public("EdDSA", "k", x=7),
]


@pytest.mark.parametrize("entry", UNUSABLE, ids=range(len(UNUSABLE)))
async def test_an_unusable_entry_is_passed_over(keys: KeySet, provider: Provider, entry: dict[str, Any]) -> None:
    provider.answer = {"keys": [entry, public("EdDSA", "good")]}
    assert await keys.key("good", "EdDSA")
    for algorithm in jwks.ALGORITHMS:
        with pytest.raises(TokenInvalid):
            await keys.key("k", algorithm)


async def test_a_session_that_was_passed_in_stays_open(provider: Provider) -> None:
    async with ClientSession() as session:
        keys = KeySet(provider.url, session=session)
        await keys.key("r", "RS256")
        await keys.close()
        assert not session.closed


async def test_closing_ends_a_fetch_under_way(provider: Provider) -> None:
    provider.gate.clear()
    keys = KeySet(provider.url)
    waiting = asyncio.create_task(keys.key("r", "RS256"))
    await provider.arrived.wait()
    await keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    provider.gate.set()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "http://10.0.0.1/k",
        "ftp://id.example/k",
        "id.example/keys",
        "https://",
        "",
        "http://[",
        "file:///k",
    ],
)
def test_keys_come_over_https_unless_from_loopback(url: str) -> None:
    with pytest.raises(StartupError, match="JWT_JWKS_URL"):
        KeySet(url)


@pytest.mark.parametrize("url", ["https://id.example/k", "http://127.0.0.1:9/k", "http://[::1]/k", "http://localhost/k"])
async def test_https_and_loopback_are_accepted(url: str) -> None:
    await KeySet(url).close()
