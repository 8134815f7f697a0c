"""The models that this version of the service brings along: models.json, one model a line, reviewed like code.

Tier, capabilities and the limit of an answer are written by hand, from the vendors' documentation; prices and context windows come
from the package genai-prices (`auralink models sync --file`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib import resources
from typing import Any

import orjson

from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.records import model_of, record_of

FILE = resources.files("auralink.llm.catalogue") / "models.json"


@dataclass(frozen=True, slots=True)
class Packaged:
    """The file, read."""

    as_of: date
    """The day that the prices are of."""
    prices_from: str
    models: tuple[Model, ...]


def packaged() -> Packaged:
    """The models of the file."""
    content = orjson.loads(FILE.read_bytes())
    return Packaged(
        date.fromisoformat(content["as_of"]), content["prices_from"], tuple(model_of(line) for line in content["models"])
    )


def written(models: Iterable[Model], as_of: date, prices_from: str) -> str:
    """The file's text for these models; what is not known or as usual is left out."""
    lines = ",\n".join(f"    {orjson.dumps(_told(record_of(model))).decode()}" for model in models)
    return f'{{\n  "as_of": "{as_of}",\n  "prices_from": "{prices_from}",\n  "models": [\n{lines}\n  ]\n}}\n'


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(member) for name, member in value.items() if member not in (None, [], False)}
    return [_told(item) for item in value] if isinstance(value, list) else value
