"""What an MCP client reads to learn where its user gets a token, and that the token is then bound to this service."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from mcp.shared.auth import ProtectedResourceMetadata
from mcp.shared.auth_utils import check_resource_allowed

from auralink.auth.metadata import WELL_KNOWN, ResourceMetadata
from auralink.auth.tokens import issue_token
from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.service import JWT_SECRET, running_service, unique

PROVIDER = "https://login.example/tenant"
PUBLIC = "https://ai.example"


def test_the_identity_provider_is_the_authorization_server() -> None:
    document = ResourceMetadata(PROVIDER, "auralink").document(f"{PUBLIC}/mcp")
    read = ProtectedResourceMetadata.model_validate(document)
    assert [str(server) for server in read.authorization_servers] == [PROVIDER]
    assert (str(read.resource), read.bearer_methods_supported) == (f"{PUBLIC}/mcp", ["header"])


def test_tokens_that_the_service_issues_itself_come_from_no_authorization_server() -> None:
    assert "authorization_servers" not in ResourceMetadata("auralink", "auralink").document(f"{PUBLIC}/mcp")


@pytest.mark.parametrize("audience", [f"{PUBLIC}/mcp", f"{PUBLIC}/", PUBLIC])
def test_an_audience_above_the_resource_is_what_a_token_is_asked_for(audience: str) -> None:
    document = ResourceMetadata(PROVIDER, audience).document(f"{PUBLIC}/mcp/wiki")
    assert document["resource"] == audience
    assert check_resource_allowed(f"{PUBLIC}/mcp/wiki", document["resource"])


@pytest.mark.parametrize(
    "audience", ["auralink", "https://other.example/mcp", f"{PUBLIC}/mcp2", "http://ai.example/mcp", "urn:mcp"]
)
def test_any_other_audience_leaves_the_resource_what_it_is(audience: str) -> None:
    assert ResourceMetadata(PROVIDER, audience).document(f"{PUBLIC}/mcp")["resource"] == f"{PUBLIC}/mcp"


async def test_a_refused_client_is_led_to_the_metadata(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring) as service, service.client() as client:
        for path in ("/mcp", "/mcp/wiki"):
            refused = await client.post(path, json={})
            assert refused.status_code == 401
            found = re.search(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
            assert found is not None
            assert found[1] == f"{service.url}{WELL_KNOWN}{path}"
            metadata = await client.get(found[1])
            assert metadata.json()["resource"] == f"{service.url}{path}"
            assert metadata.headers["access-control-allow-origin"] == "*"
        assert (await client.get(WELL_KNOWN)).json()["resource"] == f"{service.url}/mcp"
        odd = await client.post("/mcp/a%22b%0d%0ax", json={})
        assert f'{WELL_KNOWN}/mcp/a%22b%0D%0Ax"' in odd.headers["www-authenticate"]


async def test_behind_a_proxy_the_public_address_is_named(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    public = {"auralink_url": f"{PUBLIC}/", "jwt_issuer": PROVIDER, "jwt_audience": f"{PUBLIC}/mcp"}
    async with running_service(dsn, tmp_path, ring, **public) as service, service.client() as client:
        refused = await client.post("/mcp", json={})
        assert f'resource_metadata="{PUBLIC}{WELL_KNOWN}/mcp"' in refused.headers["www-authenticate"]
        document = (await client.get(f"{WELL_KNOWN}/mcp/wiki")).json()
        assert (document["resource"], document["authorization_servers"]) == (f"{PUBLIC}/mcp", [PROVIDER])


@pytest.mark.promise("P-JWT")
async def test_a_token_for_another_resource_is_not_let_in(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    bound = {"jwt_issuer": PROVIDER, "jwt_audience": f"{PUBLIC}/mcp"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"accept": "application/json, text/event-stream"}
    async with running_service(dsn, tmp_path, ring, **bound) as service, service.client() as client:
        for audience, status in ((f"{PUBLIC}/mcp", {200, 400, 404}), ("https://other.example/mcp", {401})):
            token = issue_token(
                JWT_SECRET, subject=unique(), role="user", ttl=timedelta(hours=1), issuer=PROVIDER, audience=audience
            )
            answer = await client.post("/mcp", json=message, headers={**headers, "authorization": f"Bearer {token}"})
            assert answer.status_code in status, answer.text
