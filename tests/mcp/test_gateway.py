"""The one path of a tool call, over real HTTP, real MCP servers and a real Postgres."""

import json
from pathlib import Path

import pytest

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.service import API, connected, running_service, unique


@pytest.mark.promise("P-ONEPATH")
async def test_a_call_answers_and_leaves_one_audit_record(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    (tmp_path / "wiki" / "notes").mkdir(parents=True)
    (tmp_path / "wiki" / "notes" / "README.md").write_text("# Notes\n\n## Backups\n\nBackups run every night at two.\n")
    async with running_service(dsn, tmp_path / "data", ring, wiki_repo_roots=(tmp_path / "wiki",)) as service:
        async with service.client(unique()) as client:
            connection = await connected(client)
            notes = str(tmp_path / "wiki" / "notes")
            body = {"connection_id": connection, "repo_name": notes, "question": "When do backups run?"}
            answer = await client.post(f"{API}/mcp/deepwiki/ask", json=body)
            assert answer.status_code == 200, answer.text
            assert "every night at two" in answer.json()["answer"]
            assert answer.json()["sources"][0]["file"] == "README.md"
            log = (await client.get(f"{API}/audit")).json()["items"]
            assert [(entry["operation"], entry["tool"], entry["outcome"]) for entry in log] == [
                ("tools/call", "ask_question", "ok"),
                ("connect", None, "ok"),
            ]
            assert log[0]["log_id"] == answer.json()["log_id"]
            arguments = {"repoName": notes, "question": body["question"]}
            assert log[0]["request_bytes"] == len(json.dumps(arguments, separators=(",", ":")))
            assert log[0]["response_bytes"] > len(answer.json()["answer"])
            assert log[1]["request_bytes"] is None
            stats = (await client.get(f"{API}/mcp/usage/stats")).json()
            assert (stats["operations"], stats["errors"]) == (2, 0)
