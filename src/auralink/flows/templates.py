"""The flows that come with the service: definitions like any user's, as YAML files beside this one."""

from functools import cache
from pathlib import Path

from auralink.flows.checking import check
from auralink.flows.definition import Definition
from auralink.workflows.checking import read_text
from auralink.workflows.templates import TemplateNotFound

FOLDER = Path(__file__).parent / "templates"


def template_names() -> list[str]:
    """The templates there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def get_template(name: str) -> Definition:
    """A template by its name. Raises TemplateNotFound."""
    if name not in template_names():
        raise TemplateNotFound(f"there is no flow template {name!r}; there are {', '.join(template_names())}")
    return check(read_text((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
