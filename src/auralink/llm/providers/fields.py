"""What becomes of each field of a chat completion body in a wire format. Nothing is dropped silently: a field is honoured, is left
out because that changes no answer, or is refused by name. The tables stand beside their formats and in docs/reference/providers.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auralink.llm.errors import UnsupportedField


@dataclass(frozen=True, slots=True)
class Honoured:
    """The field reaches the model, under whatever name the format has for it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The field is not sent, and no answer differs for it."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The field is refused, unless its value asks for what happens anyway."""

    why: str
    unless: tuple[object, ...] = ()


FieldTable = Mapping[str, Honoured | LeftOut | Refused]
HONOURED = Honoured()


def check_fields(body: Mapping[str, Any], table: FieldTable, provider: str) -> None:
    """Refuses what the table does not allow. `null` counts as absent.

    Raises:
        UnsupportedField: for the first field that is refused or not in the table.
    """
    for name, value in body.items():
        if value is None:
            continue
        fate = table.get(name, UNKNOWN)
        if isinstance(fate, Refused) and value not in fate.unless:
            raise UnsupportedField(name, provider, fate.why)


UNKNOWN = Refused("no translation is known for it")

NO_AUDIO = Refused("it answers in text only")
OPENAI_HINTS: FieldTable = {
    "metadata": LeftOut("labels for OpenAI's own dashboard"),
    "prompt_cache_key": LeftOut("a hint to OpenAI's cache"),
    "prompt_cache_retention": LeftOut("a hint to OpenAI's cache"),
    "prompt_cache_options": LeftOut("a hint to OpenAI's cache"),
    "prediction": LeftOut("a hint that makes some answers faster"),
}
"""Fields that mean something to OpenAI's machinery and nothing to a model."""
OPENAI_ONLY: FieldTable = {
    "store": Refused("nothing can be read back there later", unless=(False,)),
    "audio": NO_AUDIO,
    "modalities": Refused("it answers in text only", unless=(["text"],)),
    "verbosity": Refused("it has no such control"),
    "functions": Refused("it is superseded; send `tools`", unless=([],)),
    "function_call": Refused("it is superseded; send `tool_choice`"),
    "web_search_options": Refused("it is a service of OpenAI's"),
    "moderation": Refused("it is a service of OpenAI's"),
}
"""Fields that no other format has an equivalent for."""
