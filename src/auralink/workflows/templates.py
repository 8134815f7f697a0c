"""The workflows that come with the service: definitions like any user's, as YAML files beside this one."""

from functools import cache
from pathlib import Path

from auralink.core.errors import NotFound
from auralink.workflows.checking import check_text
from auralink.workflows.definition import Definition

FOLDER = Path(__file__).parent / "templates"


class TemplateNotFound(NotFound):
    """No template has this name."""

    code = "template_not_found"
    title = "Template not found"


def template_names() -> list[str]:
    """The templates there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def get_template(name: str) -> Definition:
    """A template by its name. Raises TemplateNotFound."""
    if name not in template_names():
        raise TemplateNotFound(f"there is no template {name!r}; there are {', '.join(template_names())}")
    return check_text((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
