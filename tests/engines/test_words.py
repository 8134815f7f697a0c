"""What engines make of tools' answers and models' refusals in words (engines/protocol/auralink_engine/words.py)."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import mcp_types
import pytest

from auralink.runs.engine_manifest import PROTOCOL_FOLDER, default_root


@pytest.fixture(scope="module")
def words() -> Any:
    path = default_root() / PROTOCOL_FOLDER / "auralink_engine" / "words.py"
    spec = importlib.util.spec_from_file_location("auralink_engine_words", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_part_of_an_answer_has_its_words(words: Any) -> None:
    image = mcp_types.ImageContent(type="image", data="AAAAAAAA", mime_type="image/png")
    link = mcp_types.ResourceLink(type="resource_link", name="report", uri="file:///report")
    text = mcp_types.EmbeddedResource(type="resource", resource=mcp_types.TextResourceContents(uri="file:///a", text="held"))
    data = mcp_types.EmbeddedResource(type="resource", resource=mcp_types.BlobResourceContents(uri="file:///b", blob="AAAA"))
    content = [mcp_types.TextContent(type="text", text="said"), image, link, text, data]
    assert words.text_of_content(content) == "said\n[image/png, 6 bytes]\n[report: file:///report]\nheld\n[data at file:///b]"


def test_the_first_generation_of_the_sdk_is_read_too(words: Any) -> None:
    assert words.text_of_content([SimpleNamespace(type="audio", mimeType="audio/wav", data="AAAA")]) == "[audio/wav, 3 bytes]"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"code": "budget_exceeded", "message": "used up"}}, "429 budget_exceeded used up"),
        ({"code": "rate_limited", "message": "later"}, "429 rate_limited later"),
        (None, "429 plain"),
    ],
)
def test_a_refusal_is_said_with_status_code_and_message(words: Any, body: Any, said: str) -> None:
    assert words.said_by(SimpleNamespace(status_code=429, body=body, message="plain")) == said
