"""The REST operations of the built-in servers, over HTTP."""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.service import API, connected, running_service, unique

NAMES = ("deepwiki", "memory", "sequential_thinking", "supabase", "toolbox")
CONFIG = MCPConfig.model_validate({"mcp_servers": {name: {"transport": "in_process"} for name in NAMES}})


async def test_a_users_memory_is_written_searched_and_read(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring, config=CONFIG) as service:
        async with service.client(unique()) as client, service.client(unique()) as other:
            memory = await connected(client, "memory")
            entity = {"name": "Ada", "entityType": "person", "observations": ["writes engines"]}
            made = await client.post(f"{API}/mcp/memory/create_entities", json={"connection_id": memory, "entities": [entity]})
            assert made.status_code == 200, made.text
            assert made.json()["entities"] == [entity]
            found = await client.post(f"{API}/mcp/memory/search", json={"connection_id": memory, "query": "engines"})
            assert [item["name"] for item in found.json()["entities"]] == ["Ada"]
            graph = (await client.get(f"{API}/mcp/memory/graph/{memory}")).json()
            assert [item["name"] for item in graph["entities"]] == ["Ada"]
            gone = await client.post(f"{API}/mcp/memory/delete_entities", json={"connection_id": memory, "entityNames": ["Ada"]})
            assert gone.status_code == 200, gone.text
            assert (await other.get(f"{API}/mcp/memory/graph/{memory}")).status_code == 404
            wrong = await client.post(f"{API}/mcp/memory/create_entities", json={"connection_id": memory, "entities": "Ada"})
            assert wrong.status_code == 422, wrong.text
            assert (await client.post(f"{API}/mcp/memory/forget", json={"connection_id": memory})).status_code == 422
            assert (await client.post(f"{API}/mcp/memory/search", json={"query": "x"})).status_code == 422


async def test_a_connection_without_an_address_names_no_database(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring, config=CONFIG) as service:
        async with service.client(unique()) as client:
            bare = await connected(client, "supabase")
            answer = await client.post(f"{API}/mcp/supabase/query", json={"connection_id": bare, "query": "SELECT 1"})
            assert (answer.status_code, answer.json()["code"]) == (422, "no_database")


async def test_a_database_is_asked_when_it_is_connected_and_read_afterwards(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    parts = conninfo_to_dict(test_database.superuser.reveal())
    address = (
        f"postgresql://{parts['user']}:{parts.get('password') or 'trust'}@{parts['host']}:{parts['port']}/{test_database.name}"
    )
    async with running_service(test_database.service, tmp_path, ring, config=CONFIG, allowed_networks="127.0.0.0/8") as service:
        async with service.client(unique()) as client:
            made = await client.post(f"{API}/mcp/connect", json={"server_type": "supabase", "credentials": {"dsn": address}})
            assert made.status_code == 201, made.text
            assert any("superuser" in warning["message"] for warning in made.json()["warnings"])
            where = {"connection_id": made.json()["connection_id"]}
            rows = await client.post(f"{API}/mcp/supabase/query", json={**where, "query": "SELECT 1 AS one"})
            assert rows.json()["rows"] == [{"one": 1}]
            wrong = {"server_type": "supabase", "credentials": {"dsn": address.replace(test_database.name, "nowhere")}}
            assert (await client.post(f"{API}/mcp/connect", json=wrong)).json()["code"] == "user_database_unreachable"


async def test_the_toolbox_calculates(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring, config=CONFIG) as service:
        async with service.client(unique()) as client:
            await connected(client, "toolbox")
            answer = await client.post(f"{API}/mcp/tools/toolbox__calculator/call", json={"arguments": {"expression": "2**64"}})
            assert answer.json()["result"]["structuredContent"]["result"] == "18446744073709551616"
            bomb = await client.post(f"{API}/mcp/tools/toolbox__calculator/call", json={"arguments": {"expression": "9**9**9"}})
            assert bomb.json()["result"]["isError"]
