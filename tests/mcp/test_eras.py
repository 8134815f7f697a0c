"""Clients and servers of every revision, over every transport, through the gateway (P-ERA)."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auralink import parts
from auralink.core.secret import Secret
from auralink.mcp.upstream.in_process import InProcessServers
from auralink.vault.crypto import KeyRing
from tests.conftest import eventually
from tests.mcp.across import service_of
from tests.mcp.raw_client import REVISIONS, RawClient, Refused
from tests.service import unique
from tests.upstreams import eras

UPSTREAMS = (*REVISIONS, "stdio", "sse", "in_process")


@pytest.fixture
def _built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests is one of the built-in ones."""
    build = parts.build_servers

    def with_eras(**options: Any) -> Any:
        built = build(**options)
        everything: Any = SimpleNamespace(_lowlevel_server=eras.build_server())
        return replace(built, in_process=InProcessServers({**built.servers, "eras": everything}))

    monkeypatch.setattr(parts, "build_servers", with_eras)


@pytest.mark.promise("P-ERA")
@pytest.mark.usefixtures("_built_in")
@pytest.mark.parametrize("kind", UPSTREAMS)
async def test_every_client_gets_everything_of_every_server(dsn: Secret, tmp_path: Path, ring: KeyRing, kind: str) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, kind, user) as service, service.client(user) as http:
        for revision in REVISIONS:
            for path, tool in (("/mcp", "eras__{}"), ("/mcp/eras", "{}")):
                client = RawClient(http, path, revision, log_level="info")
                await client.open()
                await _passes_everything(client, tool, tmp_path / f"{revision}{len(path)}")


async def _passes_everything(client: RawClient, tool: str, mark: Path) -> None:
    tools = {entry["name"]: entry for entry in (await client.request("tools/list", {}))["tools"]}
    assert tools[tool.format("echo")]["_meta"] == {eras.VENDOR: {"list": True}}

    meta = {"vendor.example/request": {"x": [1, {"y": None}]}}
    result = await client.call(tool.format("echo"), {"a": {"b": ["ä", 1.5, None]}}, **meta)
    assert result["structuredContent"] == {"said": {"a": {"b": ["ä", 1.5, None]}}, "meta": meta}
    assert result["_meta"][eras.VENDOR] == {"deep": [1, None, "ä"]}

    assert _text(await client.call(tool.format("ask_user"))) == "accept Ada"
    assert _text(await client.call(tool.format("ask_aside"))) == "accept Ada"
    assert _text(await client.call(tool.format("ask_model"))) == "model said Paris"

    client.heard.clear()
    await client.call(tool.format("count"), progressToken="mine")
    told = [note["params"] for note in client.heard if note["method"] == "notifications/progress"]
    assert [(note["progressToken"], note["progress"], note["message"]) for note in told] == [
        ("mine", step, f"step {step}") for step in (1, 2, 3)
    ]
    client.heard.clear()
    await client.call(tool.format("chat"))
    assert [note["params"]["data"] for note in client.heard if note["method"] == "notifications/message"] == ["hello"]

    prompt = await client.request("prompts/get", {"name": tool.format("greet"), "arguments": {"who": "Ada"}})
    assert prompt["messages"][0]["content"]["text"] == "Greet Ada."
    assert prompt["_meta"][eras.VENDOR] == "prompt"
    prefix = "" if tool == "{}" else "auralink://eras/"
    assert [entry["uri"] for entry in (await client.request("resources/list", {}))["resources"]] == [
        f"{prefix}test://a",
        f"{prefix}test://b",
    ]
    read = await client.request("resources/read", {"uri": f"{prefix}test://a"})
    assert read["contents"] == [{"uri": f"{prefix}test://a", "text": "content of test://a"}]
    templates = await client.request("resources/templates/list", {})
    assert templates["resourceTemplates"][0]["uriTemplate"] == f"{prefix}test://{{x}}"
    reference = {"type": "ref/prompt", "name": tool.format("greet")}
    completed = await client.request("completion/complete", {"ref": reference, "argument": {"name": "who", "value": "pa"}})
    assert completed["completion"]["values"] == ["paris"]

    with pytest.raises(Refused) as refused:
        await client.call(tool.format("nothing"))
    assert refused.value.error["code"] == -32602
    await _cancels(client, tool, mark)


async def _cancels(client: RawClient, tool: str, mark: Path) -> None:
    """The server sees that the client no longer waits."""
    params = {"name": tool.format("wait"), "arguments": {"mark": str(mark)}}
    waiting = asyncio.create_task(client.once("tools/call", params, request_id=777))
    await eventually(lambda: mark.with_suffix(".begun").exists() or waiting.done())
    if client.modern:
        waiting.cancel()
    else:
        await client.notify("notifications/cancelled", {"requestId": 777})
    await eventually(lambda: mark.with_suffix(".cancelled").exists())
    await asyncio.gather(waiting, return_exceptions=True)


def _text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])
