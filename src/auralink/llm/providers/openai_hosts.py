"""In what the hosts of the OpenAI format differ from OpenAI, as data. Each difference is documented by the host or reported to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from auralink.llm.providers.fields import FieldTable, LeftOut, Refused
from auralink.llm.providers.protocol import Target
from auralink.llm.providers.tool_ids import MISTRAL_IDS, OPENAI_IDS, ToolIds

LIMITS = ("max_tokens", "max_completion_tokens")
"""Two names of one thing."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host's ways."""

    limit: str | None = None
    """The only one of `LIMITS` that it takes; None: it takes both."""
    stream_options: bool = True
    """Whether it takes `stream_options`. One that does not reports usage unasked."""
    developer: bool = False
    """Whether it knows the role `developer`; the others call it `system`."""
    reasoning: bool = False
    """Whether it takes back the `reasoning_content` of earlier messages; to the others it is an unknown field."""
    path: str = ""
    """What a base URL without a path lacks."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    fields: FieldTable = field(default_factory=dict)
    """The fields that it would refuse for nothing (left out) or drop without a word (refused). All others are its own business."""
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Members that are put into objects of the body, unless they are there."""
    tool_ids: ToolIds = OPENAI_IDS


_DROPPED = "it would be dropped without a word"
_HINT = LeftOut("it is for OpenAI's own machinery")
_NOT_STORED = Refused("nothing can be read back there later", unless=(False,))
_NO_SAMPLING: FieldTable = {
    "n": Refused(_DROPPED, unless=(1,)),
    "logit_bias": Refused(_DROPPED, unless=({},)),
    "user": _HINT,
    "safety_identifier": _HINT,
    "prompt_cache_key": _HINT,
    "metadata": _HINT,
    "store": _NOT_STORED,
}

UNKNOWN_HOST = Host()
OPENAI_ADDRESS = "api.openai.com"
HOSTS: Mapping[str, Host] = {
    "openai": Host(limit="max_completion_tokens", developer=True),
    "mistral": Host(
        limit="max_tokens",
        stream_options=False,
        renamed={"seed": "random_seed"},
        fields={"user": _HINT, "safety_identifier": _HINT, "store": _NOT_STORED},
        tool_ids=MISTRAL_IDS,
    ),
    "together": Host(limit="max_tokens"),
    "groq": Host(fields={"store": _NOT_STORED, "metadata": _HINT}),
    "deepseek": Host(
        limit="max_tokens",
        reasoning=True,
        fields={
            **_NO_SAMPLING,
            "seed": Refused(_DROPPED),
            "frequency_penalty": Refused(_DROPPED, unless=(0,)),
            "presence_penalty": Refused(_DROPPED, unless=(0,)),
        },
    ),
    "xai": Host(),
    "openrouter": Host(developer=True, reasoning=True, added={"provider": {"require_parameters": True}}),
    "ollama": Host(
        limit="max_tokens",
        path="/v1",
        fields={
            **_NO_SAMPLING,
            "tool_choice": Refused(_DROPPED, unless=("auto",)),
            "parallel_tool_calls": Refused(_DROPPED, unless=(True,)),
        },
    ),
    "vllm": Host(path="/v1", reasoning=True),
    "llamacpp": Host(limit="max_tokens", path="/v1", reasoning=True),
}


def host_of(target: Target) -> Host:
    """The ways of the host that a target is at. What is called OpenAI and has another address is a host that nothing is known of."""
    if target.provider == "openai" and urlsplit(target.base_url).hostname != OPENAI_ADDRESS:
        return UNKNOWN_HOST
    return HOSTS.get(target.provider, UNKNOWN_HOST)


def address(target: Target, host: Host) -> str:
    """The base URL without a slash at its end."""
    base = target.base_url.rstrip("/")
    return base if urlsplit(base).path else base + host.path
