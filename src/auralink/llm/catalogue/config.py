"""Models that the operator adds or corrects: the section `llm_models` of the configuration file."""

from collections.abc import Container, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from auralink.core.config_file import Section, load_sections
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.models import Capability, Model, Prices, Tier
from auralink.llm.catalogue.records import PRICES
from auralink.llm.providers.vendors import VENDORS


def _model_id(value: str) -> str:
    provider, _, name = value.partition("/")
    if provider not in VENDORS or not name.strip():
        raise ValueError(f"a model is called provider/name, with one of the providers {', '.join(VENDORS)}")
    return value


ModelId = Annotated[str, AfterValidator(_model_id)]
Usd = Annotated[Decimal | None, Field(ge=0, allow_inf_nan=False, description="USD per million tokens; unset: not known")]
Tokens = Annotated[int | None, Field(ge=1, le=2**31 - 1)]


class ModelConfig(Section):
    """One entry of `llm_models`. Of a model that the catalogue has, it replaces what it names; else it is a new one."""

    title: str | None = Field(default=None, min_length=1)
    tier: Tier = "standard"
    capabilities: frozenset[Capability] = frozenset({"chat", "streaming", "tools"})
    context_window: Tokens = None
    max_output: Tokens = None
    input_usd: Usd = None
    output_usd: Usd = None
    cached_input_usd: Usd = None
    cache_write_usd: Usd = None
    deprecated: bool = False


class CatalogueConfig(Section):
    """The sections of the file that are about models."""

    llm_models: Mapping[ModelId, ModelConfig] = Field(default_factory=dict)


def load_catalogue_config(path: Path, environ: Mapping[str, str] | None = None) -> CatalogueConfig:
    """Reads and validates the section.

    Raises:
        StartupError: naming file, line and key of a mistake.
    """
    return load_sections(path, CatalogueConfig, environ)


def with_configured(catalogue: Catalogue, config: CatalogueConfig) -> Catalogue:
    """The catalogue with the operator's models."""
    added = (configured(model_id, entry, catalogue.get(model_id)) for model_id, entry in config.llm_models.items())
    return Catalogue([*catalogue, *added])


def added_by(config: CatalogueConfig, known: Container[str]) -> list[Model]:
    """The operator's models that are not among those of the package."""
    return [configured(model_id, entry, None) for model_id, entry in config.llm_models.items() if model_id not in known]


def configured(model_id: str, entry: ModelConfig, known: Model | None) -> Model:
    """The model that an entry describes. Prices that it names are the prices, also of a long prompt and in times to come."""
    provider, _, name = model_id.partition("/")
    base = known or Model(model_id, provider, name, entry.title or name, entry.tier, entry.capabilities)
    given = {field: getattr(entry, field) for field in entry.model_fields_set}
    prices: dict[str, Any] = {field: given.pop(field) for field in PRICES if field in given}
    if prices:
        given |= {"prices": replace(base.prices, **prices) if known else Prices(**prices), "long_context": None, "scheduled": ()}
    return replace(base, **given)
