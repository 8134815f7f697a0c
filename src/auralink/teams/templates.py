"""The teams that come with the service: data like any user's, as YAML files beside this one."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

from auralink.teams.definition import MAX_MEMBERS, MemberName, TeamOptions
from auralink.workflows.templates import TemplateNotFound

FOLDER = Path(__file__).parent / "templates"
GENERAL = "general"
"""The template for what no other is for."""
OF_THE_NAME = 3
"""How much more a word of the name says than one of the description."""


class TemplateMember(BaseModel):
    """A member of a template; `tools` may lack in a team that is made of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: MemberName
    role: str
    goal: str
    instructions: str
    tools: tuple[str, ...] = ()
    can_delegate: bool = False


class Template(BaseModel):
    """A team to use or to start from; `words` are beginnings of words that ask for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    words: tuple[str, ...]
    mode: str
    options: TeamOptions = TeamOptions()
    members: Annotated[tuple[TemplateMember, ...], Field(min_length=1, max_length=MAX_MEMBERS)]

    def fits(self, name: str, description: str) -> int:
        """How many words of a team's name and description ask for this template."""
        return OF_THE_NAME * self._said_in(name) + self._said_in(description)

    def _said_in(self, text: str) -> int:
        return sum(any(word.startswith(begins) for begins in self.words) for word in set(re.findall(r"[a-z]+", text.lower())))


@cache
def templates() -> dict[str, Template]:
    """All templates, by name."""
    read = (Template.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.yaml")))
    return {template.name: template for template in read}


def get_template(name: str) -> Template:
    """A template by its name, with or without the word team behind it. Raises TemplateNotFound."""
    plain = re.sub(r"[^a-z]+", "_", name.lower()).strip("_").removesuffix("_team")
    if plain not in templates():
        raise TemplateNotFound(f"there is no team template {name!r}; there are {', '.join(templates())}")
    return templates()[plain]


def best_template(name: str, description: str) -> Template:
    """The template whose words a team's name and description use most; the general one if they use none."""
    best = max(templates().values(), key=lambda template: template.fits(name, description))
    return best if best.fits(name, description) else templates()[GENERAL]
