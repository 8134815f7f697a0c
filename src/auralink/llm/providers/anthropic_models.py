"""What the generations of Claude take, read off a model's name: a field that a model refuses is refused here by its OpenAI name.

Source: the migration guides of https://platform.claude.com/docs (Opus 4.7, Sonnet 5, Opus 5.5). Of a name that is not known nothing is
assumed; Anthropic's own answer says then what it does not take.
"""

import re
from dataclasses import dataclass

_NAME = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_OLD_NAME = re.compile(r"claude-(\d)(?:[-.](\d))?-(opus|sonnet|haiku)")
_ALWAYS_THINKING = {"fable", "mythos"}
UNTOLD_LIMIT = 32_000
"""`max_tokens` where the client names none (Anthropic demands one): what every Claude since 3.7 can write."""


@dataclass(frozen=True, slots=True)
class Claude:
    """A model by family and generation; `family` is empty where the name is not known."""

    family: str = ""
    version: tuple[int, int] = (0, 0)

    @property
    def limit(self) -> int:
        """`max_tokens` where the client names none."""
        if not self.family or self.version >= (3, 7):
            return UNTOLD_LIMIT
        return 8192 if self.version == (3, 5) else 4096

    @property
    def samples(self) -> bool:
        """Whether it takes `temperature`, `top_p` and `top_k`."""
        return not self.family or (self.version < (4, 7) and self.family not in _ALWAYS_THINKING)

    @property
    def samples_by_both(self) -> bool:
        """Whether it takes `temperature` and `top_p` together."""
        return not self.family or self.version < (4, 1)

    @property
    def structures(self) -> bool:
        """Whether it takes a JSON schema for its answer."""
        return not self.family or self.version >= (4, 1)

    @property
    def takes_effort(self) -> bool:
        """Whether it takes an effort."""
        return not self.family or self.adapts or (self.family == "opus" and self.version == (4, 5))

    @property
    def adapts(self) -> bool:
        """Whether it thinks adaptively."""
        return self.version >= (4, 6) or self.family in _ALWAYS_THINKING

    @property
    def without_thinking(self) -> str | None:
        """The type of thinking that is least: empty where it does not think unless asked, None where it cannot be stopped."""
        if self.family in _ALWAYS_THINKING or (self.family == "opus" and self.version >= (5, 5)):
            return None
        if self.family == "sonnet" and self.version >= (5, 5):
            return "between_tools"
        return "disabled" if self.version >= (5, 0) else ""

    @property
    def obeys_tool_choice(self) -> bool:
        """Whether it can be made to call a tool."""
        since = {"opus": (5, 5), "sonnet": (5, 5), "fable": (5, 1), "mythos": (5, 1)}
        return self.version < since.get(self.family, (100, 0))


def claude(model: str) -> Claude:
    """The model of this name."""
    if named := _NAME.search(model):
        return Claude(named[1], (int(named[2]), int(named[3] or 0)))
    if named := _OLD_NAME.search(model):
        return Claude(named[3], (int(named[1]), int(named[2] or 0)))
    return Claude("mythos", (5, 0)) if "claude-mythos" in model else Claude()
