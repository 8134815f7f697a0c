"""What engines there are: a folder with an `engine.toml`, its lock, and (once installed) its environment.

Nothing of a framework is imported here; whether an engine is installed is read from its environment's stamp, which names the
lock that it was made from.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from auralink.core.errors import AuralinkError

MANIFEST = "engine.toml"
STAMP = ".installed"
PROTOCOL_FOLDER = "protocol"
Kind = Literal["agent", "workflow", "team", "flow"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]


class EngineUnknown(AuralinkError):
    """No engine has this name."""

    code = "engine_unknown"
    status = 422
    title = "Unknown engine"


class EngineNotInstalled(AuralinkError):
    """The engine is known and its environment is not there, or made from an older lock."""

    code = "engine_not_installed"
    status = 409
    title = "Engine not installed"


class BadManifest(AuralinkError):
    """An `engine.toml` does not say what it must."""

    code = "engine_manifest_invalid"
    status = 500
    title = "Invalid engine manifest"


class Manifest(BaseModel):
    """An engine as its `engine.toml` describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: str
    framework: str
    module: ModuleName
    kinds: frozenset[Kind]
    modes: tuple[Name, ...] = ()
    """Of teams: how their members can work together, the usual way first."""
    rank: int = 100
    """Of several engines that could run a definition which names none, the one of the lowest is taken."""
    requirements: str = "requirements.txt"
    preload: tuple[ModuleName, ...] = ()
    mode: Literal["fork", "pool"] = "fork"
    spares: Annotated[int, Field(ge=1, le=16)] = 2
    memory_mb: Annotated[int, Field(ge=16)] = 512
    helper: ModuleName | None = None
    """A module whose `serve` runs in a process that all of the engine's runs share."""
    passed_on: tuple[str, ...] = ()
    """Variables of the worker's environment that the engine is given; beginnings of names end in `*`."""
    environment: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine is."""

    folder: Path
    manifest: Manifest

    @property
    def environment(self) -> Path:
        return self.folder / ".venv"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def lock(self) -> Path:
        return self.folder / self.manifest.requirements

    @property
    def stamp(self) -> Path:
        return self.environment / STAMP

    def lock_digest(self) -> str:
        """What the environment must have been made from."""
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()

    def state(self) -> Literal["installed", "outdated", "missing"]:
        """Whether the environment is there and made from the present lock."""
        if not self.stamp.is_file() or not self.python.exists():
            return "missing"
        return "installed" if self.stamp.read_text(encoding="ascii").strip() == self.lock_digest() else "outdated"


def default_root() -> Path:
    """The `engines` folder of the checkout that this code is part of."""
    return Path(__file__).resolve().parents[3] / "engines"


def find_places(root: Path) -> Iterator[Place]:
    """The engines under a folder, by name. Raises BadManifest."""
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        yield Place(path.parent, read_manifest(path))


def get_place(root: Path, name: str) -> Place:
    """The engine of this name. Raises EngineUnknown or BadManifest."""
    known = {place.manifest.name: place for place in find_places(root)}
    if name not in known:
        raise EngineUnknown(f"there is no engine {name!r}; there are {', '.join(known) or 'none'} (under {root})")
    return known[name]


def read_manifest(path: Path) -> Manifest:
    """Reads an `engine.toml` strictly. Raises BadManifest, naming file and key."""
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise BadManifest(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadManifest(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if manifest.name != path.parent.name:
        raise BadManifest(f"{path}: name is {manifest.name!r}; it must be that of the folder, {path.parent.name!r}")
    return manifest
