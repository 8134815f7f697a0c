"""The operator's models: `llm_models` of the configuration file."""

from decimal import Decimal
from pathlib import Path

import pytest

from auralink.core.config_file import SECTIONS
from auralink.core.errors import StartupError
from auralink.core.settings import PROJECT_ROOT
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.config import CatalogueConfig, load_catalogue_config, with_configured
from auralink.llm.catalogue.packaged import packaged
from auralink.mcp.config import MCPConfig, load_mcp_config

OWN = "llm_models:\n  ollama/qwen3:14b:\n    tier: fast\n    context_window: 32768\n"


def load(tmp_path: Path, text: str, **environ: str) -> CatalogueConfig:
    path = tmp_path / "mcp.yaml"
    path.write_text(text)
    return load_catalogue_config(path, environ)


def test_the_file_of_the_installation_adds_none() -> None:
    assert load_catalogue_config(PROJECT_ROOT / "config" / "mcp-config.yaml", {}) == CatalogueConfig()


def test_a_new_model_is_added(tmp_path: Path) -> None:
    catalogue = with_configured(
        Catalogue(packaged().models), load(tmp_path, OWN + "    input_usd: 0\n    output_usd: ${PRICE}\n", PRICE="0.5")
    )
    found = catalogue.find("qwen3:14b")
    assert found is not None
    assert (found.model_id, found.provider, found.title, found.tier) == ("ollama/qwen3:14b", "ollama", "qwen3:14b", "fast")
    assert (found.context_window, found.input_usd, found.output_usd) == (32768, Decimal(0), Decimal("0.5"))
    assert found.capabilities == {"chat", "streaming", "tools"}
    assert len(catalogue) == len(packaged().models) + 1


def test_of_a_known_model_what_is_named_is_replaced(tmp_path: Path) -> None:
    known = Catalogue(packaged().models)
    changed = with_configured(known, load(tmp_path, "llm_models:\n  openai/gpt-5.5:\n    input_usd: 1.5\n")).find("gpt-5.5")
    before = known.find("gpt-5.5")
    assert before is not None
    assert changed is not None
    assert (changed.input_usd, changed.output_usd) == (Decimal("1.5"), before.output_usd)
    assert (changed.tier, changed.title, changed.capabilities) == (before.tier, before.title, before.capabilities)
    assert before.long_context is not None
    assert changed.long_context is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN + "    price: 3\n", "mcp.yaml:5: unknown key 'llm_models.ollama/qwen3:14b.price'"),
        (OWN + "    input_usd: -1\n", "mcp.yaml:5: llm_models.ollama/qwen3:14b.input_usd: Input should be greater than"),
        (OWN + "    capabilities: [flying]\n", "mcp.yaml:5: llm_models.ollama/qwen3:14b.capabilities"),
        ("llm_models:\n  gpt-5: {}\n", "mcp.yaml:2: llm_models.gpt-5"),
        ("llm_models:\n  nobody/gpt-5: {}\n", "with one of the providers openai, anthropic"),
        (OWN + "    input_usd: ${NOWHERE}\n", "mcp.yaml:5: the environment variable NOWHERE is not set"),
        ("llm_model: {}\n", "mcp.yaml:1: unknown key 'llm_model'"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(tmp_path, text)
    assert said in caught.value.message


def test_each_domain_reads_its_own_sections_and_leaves_those_of_others_to_them(tmp_path: Path) -> None:
    path = tmp_path / "mcp.yaml"
    path.write_text("llm_models: [wrong]\nmcp_global: {wrong: 1}\n")
    with pytest.raises(StartupError, match=r"mcp_global\.wrong") as caught:
        load_mcp_config(path, {})
    assert "llm_models" not in caught.value.message
    with pytest.raises(StartupError, match="llm_models"):
        load_catalogue_config(path, {})


def test_every_section_belongs_to_one_domain() -> None:
    fields = [*MCPConfig.model_fields, *CatalogueConfig.model_fields]
    assert sorted(fields) == sorted(SECTIONS)
