"""Signed requests (RFC 9421): ours to servers, and our users' to us."""

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms
from starlette.datastructures import Headers

from auralink.auth.principal import user_id_of
from auralink.auth.signing import (
    COMPONENTS,
    TAG,
    KnownKey,
    RequestSigner,
    SignatureInvalid,
    SignedMessage,
    jwk_of,
    thumbprint,
    verify,
)
from auralink.core.secret import Secret
from auralink.core.settings import PROJECT_ROOT
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.conftest import ISSUER, TestDatabase
from tests.mcp.oauth.authority import ProtectedServer, serving
from tests.service import API, connected, running_service, unique
from tests.upstreams.sdk import build_server

RSA_PEM = (
    rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)
URL = "https://ai.example/api/v1/things?x=1"
LOOPBACK = (ip_network("127.0.0.0/8"),)
KEYS = f"{API}/signing-keys"


class Signer:
    """A user's signing client, made with the library's defaults where ours are not prescribed."""

    def __init__(self, key: Any = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.key_id = thumbprint(self.key.public_key())
        is_ed25519 = isinstance(self.key, Ed25519PrivateKey)
        self._algorithm = algorithms.ED25519 if is_ed25519 else algorithms.ECDSA_P256_SHA256

    @property
    def pem(self) -> str:
        return str(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    @property
    def known(self) -> KnownKey:
        return KnownKey(self.key_id, self._algorithm.algorithm_id, self.key.public_key())

    def headers(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        age: timedelta = timedelta(),
        lifetime: timedelta | None = timedelta(minutes=5),
        nonce: str | None = "",
        tag: str | None = TAG,
        components: tuple[str, ...] = COMPONENTS,
        key_id: str | None = None,
        digest: bool = True,
    ) -> dict[str, str]:
        """The headers of a signed request."""
        resolver = MappingKeyResolver(private_keys={key_id or self.key_id: self.key}, public_keys={})
        message = SignedMessage(method, url, {})
        created = datetime.now(UTC) - age
        HTTPMessageSigner(signature_algorithm=self._algorithm, key_resolver=resolver).sign(
            message,
            key_id=key_id or self.key_id,
            created=created,
            expires=None if lifetime is None else created + lifetime,
            nonce=unique("nonce") if nonce == "" else nonce,
            tag=tag,
            covered_component_ids=components,
            body=(body or None) if digest else None,
        )
        return dict(message.headers)


def checked(signer: Signer, headers: dict[str, str], *, method: str = "PUT", url: str = URL, body: bytes = b"") -> str:
    """The nonce of a request that passes."""
    return verify(SignedMessage(method, url, Headers(headers)), body, [signer.known]).nonce


@pytest.mark.parametrize("key", [Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())], ids=["ed25519", "p256"])
def test_a_signature_by_a_known_key_verifies(key: Any) -> None:
    signer = Signer(key)
    body = b'{"token": "new"}'
    assert checked(signer, signer.headers("PUT", URL, body, nonce="once"), body=body) == "once"
    assert checked(signer, signer.headers("DELETE", URL, nonce="twice"), method="DELETE") == "twice"


@pytest.mark.parametrize(
    "change",
    [{"method": "POST"}, {"url": URL + "2"}, {"url": URL.replace("https", "http")}, {"body": b'{"token": "NEW"}'}, {"body": b""}],
)
def test_what_was_changed_on_the_way_is_refused(change: dict[str, Any]) -> None:
    signer, body = Signer(), b'{"token": "new"}'
    headers = signer.headers("PUT", URL, body)
    with pytest.raises(SignatureInvalid):
        checked(signer, headers, **{"body": body, **change})


def test_a_digest_that_was_changed_with_the_body_is_refused() -> None:
    signer, other = Signer(), b'{"token": "evil"}'
    digest = base64.b64encode(hashlib.sha256(other).digest()).decode()
    headers = signer.headers("PUT", URL, b'{"token": "new"}') | {"Content-Digest": f"sha-256=:{digest}:"}
    with pytest.raises(SignatureInvalid):
        checked(signer, headers, body=other)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"age": timedelta(minutes=6)}, "expire|age|past"),
        ({"age": timedelta(minutes=20), "lifetime": timedelta(days=1)}, "age"),
        ({"age": timedelta(minutes=-2)}, "future"),
        ({"lifetime": timedelta(minutes=-1)}, "past"),
        ({"lifetime": None}, "needs created, expires and keyid"),
        ({"nonce": None}, "needs a nonce"),
        ({"nonce": "n" * 129}, "needs a nonce"),
        ({"tag": None}, "tag"),
        ({"tag": "another-application"}, "tag"),
        ({"components": ("@method",)}, "target-uri"),
        ({"components": ("@target-uri",)}, "method"),
        ({"digest": False}, "Content-Digest"),
        ({"key_id": "somebody"}, "key"),
    ],
)
def test_a_signature_that_says_too_little_or_is_too_old_is_refused(options: dict[str, Any], why: str) -> None:
    signer, body = Signer(), b"{}"
    with pytest.raises(SignatureInvalid, match=why):
        checked(signer, signer.headers("PUT", URL, body, **options), body=body)


def test_clocks_may_be_apart_by_half_a_minute() -> None:
    signer = Signer()
    checked(signer, signer.headers("PUT", URL, age=timedelta(seconds=-20)))
    checked(signer, signer.headers("PUT", URL, age=timedelta(minutes=5, seconds=20)))


def test_a_signature_under_anothers_key_id_is_refused() -> None:
    signer, other = Signer(), Signer()
    with pytest.raises(SignatureInvalid):
        checked(signer, other.headers("PUT", URL, key_id=signer.key_id))


@pytest.mark.parametrize(
    "headers",
    [
        {"Signature": "sig=:AAAA:"},
        {"Signature": "garbage", "Signature-Input": "garbage"},
        {"Signature": "sig=:AAAA:", "Signature-Input": 'sig=("@method" "@target-uri");created=1;tag="auralink"'},
        {"Signature": "sig=1", "Signature-Input": "sig=2"},
        {"Signature": "é", "Signature-Input": "é"},
    ],
)
def test_what_is_no_signature_is_refused_in_words(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid, match=r"signing\.md"):
        checked(Signer(), headers)


def test_two_signatures_with_our_tag_are_one_too_many() -> None:
    signer = Signer()
    one, two = signer.headers("PUT", URL), signer.headers("PUT", URL)
    both = {name: f"{one[name]}, {two[name].replace('pyhms=', 'second=')}" for name in one}
    with pytest.raises(SignatureInvalid, match="2 signatures"):
        checked(signer, both)


def test_our_thumbprint_is_that_of_rfc_8037() -> None:
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="))
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


# --- registered keys, over HTTP


async def send(
    client: httpx2.AsyncClient, signer: Signer | None, method: str, path: str, body: Any = None, **options: Any
) -> Any:
    """A request, signed or not."""
    content = b"" if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"content-type": "application/json"}
    if signer is not None:
        headers |= signer.headers(method, f"{client.base_url}".rstrip("/") + path, content, **options)
    return await client.request(method, path, content=content, headers=headers)


async def test_a_registered_key_makes_a_signature_necessary_and_enough(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    signer, thief = Signer(), Signer()
    async with serving(lambda _: build_server()) as server:
        async with running_service(dsn, tmp_path, ring, allowed_networks=LOOPBACK) as service, service.client(unique()) as client:
            connection = await connected(client, "custom", name="mine", endpoint=server.url)
            path, body = f"{API}/mcp/connections/{connection}/credentials", {"token": "a-new-token"}
            assert (await send(client, None, "PUT", path, body)).status_code == 200

            registered = await send(client, None, "POST", KEYS, {"name": "laptop", "public_key": signer.pem})
            assert registered.status_code == 201, registered.text
            key = registered.json()
            assert (key["key_id"], key["algorithm"], key["last_used_at"]) == (signer.key_id, "ed25519", None)

            unsigned = await send(client, None, "PUT", path, body)
            assert (unsigned.status_code, unsigned.json()["code"]) == (403, "signature_required")
            assert 'tag="auralink"' in unsigned.headers["accept-signature"]
            for refused in (
                await send(client, thief, "PUT", path, body),
                await send(client, thief, "POST", KEYS, {"name": "thief", "public_key": thief.pem}),
                await send(client, thief, "DELETE", f"{KEYS}/{key['signing_key_id']}"),
            ):
                assert (refused.status_code, refused.json()["code"]) == (403, "signature_invalid")
            assert (await send(client, None, "DELETE", f"{KEYS}/{key['signing_key_id']}")).status_code == 403
            assert (await send(client, None, "POST", f"{API}/mcp/connections/{connection}/oauth/start")).status_code == 403
            approval = f"{API}/approvals/{uuid4()}"
            assert (await send(client, None, "POST", approval, {"decision": "approve"})).status_code == 403
            assert (await send(client, signer, "POST", approval, {"decision": "approve"})).status_code == 404

            assert (await send(client, signer, "PUT", path, body)).status_code == 200
            assert (await client.get(KEYS)).json()["items"][0]["last_used_at"] is not None
            assert (await send(client, signer, "DELETE", f"{KEYS}/{key['signing_key_id']}")).status_code == 204
            assert (await send(client, None, "PUT", path, body)).status_code == 200


async def test_a_signed_request_is_good_for_one_use_on_every_replica(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    signer, user = Signer(), unique()
    public = {"auralink_url": "https://ai.example"}
    async with (
        running_service(dsn, tmp_path, ring, **public) as service,
        running_service(dsn, tmp_path, ring, **public) as replica,
        service.client(user) as client,
        replica.client(user) as other,
    ):
        await send(client, None, "POST", KEYS, {"name": "laptop", "public_key": signer.pem})
        body = json.dumps({"name": "phone", "public_key": Signer().pem}).encode()
        headers = {"content-type": "application/json"} | signer.headers("POST", f"https://ai.example{KEYS}", body)
        answers = await asyncio.gather(*(one.post(KEYS, content=body, headers=headers) for one in (client, other, client, other)))
        assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403]
        assert {answer.json()["code"] for answer in answers if answer.status_code == 403} == {"signature_replayed"}
        inside = signer.headers("POST", f"{service.url}{KEYS}", body)
        wrong_address = await client.post(KEYS, content=body, headers={**headers, **inside})
        assert wrong_address.json()["code"] == "signature_invalid"


async def test_keys_are_listed_renamed_and_ones_own(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    async with running_service(dsn, tmp_path, ring) as service:
        async with service.client(unique()) as client, service.client(unique()) as stranger:
            registered = await send(client, None, "POST", KEYS, {"name": "hsm", "public_key": jwk_of(signer.key.public_key())})
            key = registered.json()
            path = f"{KEYS}/{key['signing_key_id']}"
            assert (key["algorithm"], key["key_id"]) == ("ecdsa-p256-sha256", signer.key_id)
            assert (await client.patch(path, json={"name": "new"})).json()["name"] == "new"
            assert (await client.get(path)).json() == {**key, "name": "new"}
            again = await send(client, signer, "POST", KEYS, {"name": "hsm", "public_key": signer.pem})
            assert (again.status_code, again.json()["code"]) == (409, "signing_key_known")
            assert (await stranger.get(KEYS)).json()["items"] == []
            for answer in (await stranger.get(path), await stranger.patch(path, json={"name": "x"}), await stranger.delete(path)):
                assert (answer.status_code, answer.json()["code"]) == (404, "signing_key_not_found")
            same = await send(stranger, None, "POST", KEYS, {"name": "same", "public_key": signer.pem})
            assert same.status_code == 201  # nobody learns which keys others have


async def test_what_is_no_public_key_of_ours_is_refused(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    bad: list[tuple[Any, str]] = [
        ("nonsense", "neither PEM"),
        ({"kty": "OKP"}, "neither PEM"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}, "private key"),
        (jwk_of(Signer().key.public_key()) | {"x": "AA"}, "neither PEM"),
        (RSA_PEM, "of another kind"),
    ]
    async with running_service(dsn, tmp_path, ring) as service, service.client(unique()) as client:
        for public_key, why in bad:
            answer = await client.post(KEYS, json={"name": "x", "public_key": public_key})
            assert (answer.status_code, why in answer.json()["detail"]) == (422, True), answer.text


async def test_the_example_of_the_documentation_works_and_so_does_the_operators_way_out(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    signer, user, owner = Signer(), unique(), unique()
    (tmp_path / "signing.pem").write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    example = re.search(r"```python\n(.*?)```", (PROJECT_ROOT / "docs/how-to/signing.md").read_text(), re.DOTALL)
    assert example is not None
    async with running_service(test_database.service, tmp_path, ring) as service:
        async with service.client(user) as client, service.client(owner) as other:
            for one in (client, other):
                assert (await send(one, None, "POST", KEYS, {"name": "first", "public_key": signer.pem})).status_code == 201
            body = json.dumps({"name": "second", "public_key": Signer().pem})
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", example[1], signer.key_id, "POST", f"{service.url}{KEYS}", body),
                env={**os.environ, "TOKEN": service.token(user)},
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await program.communicate()
            assert json.loads(said)["name"] == "second"
            with psycopg.connect(test_database.owner.reveal()) as session:
                session.execute("SET ROLE auralink_system")
                session.execute("DELETE FROM auralink.signing_keys WHERE user_id = %s", [user_id_of(ISSUER, user)])
            assert (await client.get(KEYS)).json()["items"] == []
            assert len((await other.get(KEYS)).json()["items"]) == 1


# --- our own signatures


def signed_config(url: str, *, sign: bool) -> MCPConfig:
    """A configuration with one server."""
    entry = {"transport": "http", "endpoint": url, "sign_requests": sign}
    return MCPConfig.model_validate({"mcp_servers": {"partner": entry}})


def messages(server: ProtectedServer) -> list[tuple[dict[str, str], bytes]]:
    """What came in with a body."""
    return list(zip([h for h in server.headers if h.get("content-length", "0") != "0"], server.bodies, strict=True))


async def test_calls_are_signed_where_the_configuration_asks_and_verify_with_the_published_key(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    async with serving(lambda _: build_server()) as server:
        async with running_service(dsn, tmp_path, ring, config=signed_config(server.url, sign=True)) as service:
            async with service.client(unique()) as client:
                await connected(client, "partner")
                called = await client.post(f"{API}/mcp/tools/partner__echo/call", json={"arguments": {"text": "hi"}})
                assert called.json()["result"]["content"][0]["text"] == "hi"
                directory = await client.get("/.well-known/http-message-signatures-directory")
    assert directory.headers["content-type"] == "application/http-message-signatures-directory+json"
    (jwk,) = directory.json()["keys"]
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    assert (jwk["kid"], jwk["kty"], "d" in jwk) == (thumbprint(key), "OKP", False)
    known, nonces = KnownKey(jwk["kid"], "ed25519", key), set()
    for headers, body in messages(server):
        nonces.add(verify(SignedMessage("POST", server.url, Headers(headers)), body, [known]).nonce)
        with pytest.raises(SignatureInvalid):
            verify(SignedMessage("POST", server.url, Headers(headers)), body + b" ", [known])
    assert len(nonces) == len(server.bodies) >= 3


async def test_calls_are_not_signed_where_nobody_asks(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with serving(lambda _: build_server()) as server:
        async with running_service(dsn, tmp_path, ring, config=signed_config(server.url, sign=False)) as service:
            async with service.client(unique()) as client:
                await connected(client, "partner")
    assert "signature" not in server.heard.lower()


def test_every_process_of_an_installation_signs_with_the_same_key(ring: KeyRing) -> None:
    one, other = (RequestSigner(ring.derive("request signing")) for _ in range(2))
    assert one.directory() == other.directory()
    message = SignedMessage("DELETE", URL, Headers(one.headers("DELETE", URL, None)))
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(one.directory()["keys"][0]["x"] + "="))
    verify(message, b"", [KnownKey(other.key_id, "ed25519", key)])
