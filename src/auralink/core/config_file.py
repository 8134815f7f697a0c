"""The installation's configuration file, read for one domain at a time: YAML with the environment substituted in, validated.

A domain describes its own sections in a Pydantic model and reads those; the sections of others it neither knows nor checks. Every
mistake names the file, the line, the key and what was expected.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from auralink.core.errors import StartupError
from auralink.core.settings import PROJECT_ROOT

SECTIONS = frozenset({"environment", "mcp_global", "circuit_breaker", "mcp_servers", "llm_models"})
"""What the file may have at its top, of all domains together."""
VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class Section(BaseModel):
    """A part of the file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


Sections = TypeVar("Sections", bound=Section)


def config_path() -> Path:
    """Where the file is: `AURALINK_CONFIG`, else `config/mcp-config.yaml`."""
    return Path(os.environ.get("AURALINK_CONFIG") or PROJECT_ROOT / "config" / "mcp-config.yaml")


def load_sections(path: Path, sections: type[Sections], environ: Mapping[str, str] | None = None) -> Sections:
    """Reads and validates the sections of a domain: the fields of `sections` are their names.

    Raises:
        StartupError: the file is missing, is no YAML, names an unset variable, or has an unknown key or a wrong type.
    """
    environ = os.environ if environ is None else environ
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        return sections() if root is None else sections.model_validate(_plain(_own(root, sections), path, environ))
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}; set AURALINK_CONFIG to the right file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise StartupError(f"{path}: not valid YAML: it contains itself, or is nested too deep") from None
    except ValidationError as error:
        assert root is not None
        problems = "; ".join(_explain(root, path, e) for e in error.errors(include_input=False))
        raise StartupError(problems) from None


def _own(root: yaml.Node, sections: type[Section]) -> yaml.Node:
    """The file without the sections of other domains; what is nobody's stays, to be refused."""
    if not isinstance(root, yaml.MappingNode):
        return root
    others = SECTIONS - sections.model_fields.keys()
    kept = [(key, value) for key, value in root.value if not (isinstance(key, yaml.ScalarNode) and key.value in others)]
    return yaml.MappingNode(root.tag, kept, root.start_mark, root.end_mark)


def _plain(node: yaml.Node, path: Path, environ: Mapping[str, str]) -> Any:
    """A YAML node as plain data, with variables substituted in its scalars."""
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, path)
        return {key.value: _plain(value, path, environ) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path, environ) for item in node.value]
    text = VARIABLE.sub(lambda match: _variable(match, node, path, environ), node.value)
    if text == node.value:
        return yaml.SafeLoader("").construct_object(node)
    return text or None  # a variable's text is never read as YAML: a key may look like a number or a list


def _refuse_repeated_keys(node: yaml.MappingNode, path: Path) -> None:
    """YAML would silently take the last."""
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise StartupError(f"{path}:{line}: a key must be a plain word")
        if key.value in seen:
            raise StartupError(f"{path}:{line}: the key {key.value!r} stands here twice")
        seen.add(key.value)


def _variable(match: re.Match[str], node: yaml.Node, path: Path, environ: Mapping[str, str]) -> str:
    value = environ.get(match["name"])
    if value:
        return value
    if match["default"] is None:
        line = node.start_mark.line + 1
        raise StartupError(f"{path}:{line}: the environment variable {match['name']} is not set and has no default here")
    return match["default"]


def _explain(root: yaml.Node, path: Path, error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    line = _line_of(root, location)
    key = ".".join(location) or "file"
    if error["type"] == "extra_forbidden":
        return f"{path}:{line}: unknown key {key!r}"
    return f"{path}:{line}: {key}: {error['msg']}"


def _line_of(node: yaml.Node, location: list[str]) -> int:
    """The line of the deepest part of `location` that the file has."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
