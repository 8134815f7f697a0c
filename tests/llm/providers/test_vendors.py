"""The vendors that can be configured, and what generations of their models take."""

import re
from pathlib import Path

import pytest

from auralink.llm.providers.anthropic_models import claude
from auralink.llm.providers.openai_hosts import HOSTS
from auralink.llm.providers.vendors import REGISTRY, VENDORS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "providers.md"


def test_every_vendor_speaks_a_format_that_is_there() -> None:
    assert {vendor.wire_format for vendor in VENDORS.values()} == set(REGISTRY)
    assert all(vendor_id == vendor.vendor_id for vendor_id, vendor in VENDORS.items())


def test_every_openai_host_has_its_ways_written_down() -> None:
    assert {vendor_id for vendor_id, vendor in VENDORS.items() if vendor.wire_format == "openai"} == set(HOSTS)


def test_environment_variables_are_called_as_in_the_contract() -> None:
    assert (VENDORS["openai"].key_variable, VENDORS["openai"].base_url_variable) == ("OPENAI_API_KEY", "OPENAI_BASE_URL")
    assert VENDORS["google"].key_variable == "GOOGLE_API_KEY"
    assert VENDORS["ollama"].base_url_variable == "OLLAMA_BASE_URL"
    assert [vendor_id for vendor_id, vendor in VENDORS.items() if vendor.self_hosted] == ["ollama", "vllm", "llamacpp"]


def rows(title: str) -> dict[str, str]:
    """The rows of a section of the reference, by the name in the first column."""
    section = REFERENCE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", section, re.MULTILINE))


def test_the_reference_lists_the_vendors() -> None:
    listed = {
        vendor.vendor_id: f"{vendor.wire_format} | `{vendor.key_variable}` | `{vendor.base_url_variable}` | `{vendor.base_url}`"
        for vendor in VENDORS.values()
    }
    assert rows("Vendors") == listed


@pytest.mark.parametrize("vendor_id", HOSTS)
def test_the_reference_says_what_is_different_at_a_host(vendor_id: str) -> None:
    said, host = rows("OpenAI-compatible hosts")[vendor_id], HOSTS[vendor_id]
    named = {*host.fields, *host.renamed.values(), *filter(None, [host.limit])}
    assert not {name for name in named if f"`{name}`" not in said}


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("claude-opus-4-20250514", "opus", (4, 0)),
        ("claude-opus-4-1-20250805", "opus", (4, 1)),
        ("claude-sonnet-4-5", "sonnet", (4, 5)),
        ("claude-haiku-4-5-20251001", "haiku", (4, 5)),
        ("claude-opus-5", "opus", (5, 0)),
        ("claude-fable-5-1", "fable", (5, 1)),
        ("claude-3-5-sonnet-20241022", "sonnet", (3, 5)),
        ("claude-3-opus-20240229", "opus", (3, 0)),
        ("claude-3-7-sonnet-latest", "sonnet", (3, 7)),
        ("claude-mythos-preview", "mythos", (5, 0)),
        ("something-else", "", (0, 0)),
    ],
)
def test_a_claude_is_known_by_its_name(model: str, family: str, version: tuple[int, int]) -> None:
    assert (claude(model).family, claude(model).version) == (family, version)


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-20241022", 8192),
        ("claude-3-7-sonnet-latest", 32000),
        ("other", 32000),
    ],
)
def test_a_limit_that_the_client_does_not_name_is_one_that_the_model_can_write(model: str, limit: int) -> None:
    assert claude(model).limit == limit


def test_of_an_unknown_claude_nothing_is_assumed() -> None:
    unknown = claude("claude-of-tomorrow")
    assert unknown.samples
    assert unknown.samples_by_both
    assert unknown.structures
    assert unknown.takes_effort
    assert unknown.obeys_tool_choice
    assert not unknown.adapts
