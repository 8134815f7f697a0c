"""The engine's own reading of its `engine.toml`; the service checks the file strictly (auralink.runs.engines)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """How an engine is run."""

    name: str
    framework: str
    module: str
    preload: tuple[str, ...]
    mode: str
    spares: int
    helper: str | None
    environment: Mapping[str, str]

    @property
    def framework_version(self) -> str:
        """The installed version of the framework; that of Python when the engine has none."""
        try:
            return version(self.framework)
        except PackageNotFoundError:
            return "unknown"


def read_manifest(path: Path) -> Manifest:
    """Reads an `engine.toml`."""
    with path.open("rb") as file:
        given = tomllib.load(file)
    return Manifest(
        name=given["name"],
        framework=given["framework"],
        module=given["module"],
        preload=tuple(given.get("preload", ())),
        mode=given.get("mode", "fork"),
        spares=given.get("spares", 2),
        helper=given.get("helper"),
        environment=given.get("environment", {}),
    )
