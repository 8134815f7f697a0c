"""The engines that teams can run on, and which of them a team gets. Taken from the manifests: there is no list of engines here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auralink.core.warned import did_you_mean
from auralink.runs.engine_manifest import Place, find_places
from auralink.workflows.checking import DefinitionInvalid, Problem


@dataclass(frozen=True)
class Choice:
    """An engine and one of its modes."""

    team_type: str
    mode: str


@dataclass(frozen=True)
class Roster:
    """The engines under a folder. `require_engine` raises EngineNotInstalled for one that could run nothing."""

    root: Path
    require_engine: Callable[[str], object]

    def places(self) -> list[Place]:
        """Engines of teams, the preferred first."""
        found = [place for place in find_places(self.root) if "team" in place.manifest.kinds]
        return sorted(found, key=lambda place: (place.manifest.rank, place.manifest.name))

    def choose(self, team_type: str | None, mode: str | None, *, usual: str | None = None) -> Choice:
        """The engine and the mode of a team that names both, one or neither; `usual` is the mode of one that names none, if there is
        such. Without an engine it is the first installed one that has the mode.

        Raises DefinitionInvalid, EngineNotInstalled.
        """
        if team_type is not None:
            place = self._named(team_type)
            modes = place.manifest.modes
            chosen = mode or (usual if usual in modes else modes[0])
            if chosen not in modes:
                raise DefinitionInvalid([Problem("/collaboration_mode", self._not_of(chosen, place))])
        else:
            place, chosen = self._having(mode, usual)
        self.require_engine(place.manifest.name)
        return Choice(place.manifest.name, chosen)

    def _named(self, team_type: str) -> Place:
        known = {place.manifest.name: place for place in self.places()}
        if team_type not in known:
            said = f"there is no team_type {team_type!r}{did_you_mean(team_type, known)}; there are {', '.join(known) or 'none'}"
            raise DefinitionInvalid([Problem("/team_type", said)])
        return known[team_type]

    def _having(self, mode: str | None, usual: str | None) -> tuple[Place, str]:
        """Of the engines that have the mode the first that is installed, else the first."""
        places = self.places()
        wanted = mode or (usual if any(usual in place.manifest.modes for place in places) else None)
        having = [place for place in places if wanted is None or wanted in place.manifest.modes]
        if not having:
            modes = {name for place in places for name in place.manifest.modes}
            said = f"no engine has a mode {wanted!r}{did_you_mean(wanted or '', modes)}; there are {self._modes() or 'none'}"
            raise DefinitionInvalid([Problem("/collaboration_mode", said)])
        place = next((place for place in having if place.state() == "installed"), having[0])
        return place, wanted or place.manifest.modes[0]

    def _not_of(self, mode: str, place: Place) -> str:
        manifest = place.manifest
        said = f"{manifest.name} has no mode {mode!r}{did_you_mean(mode, manifest.modes)}; it has {', '.join(manifest.modes)}"
        others = [other.manifest.name for other in self.places() if mode in other.manifest.modes]
        return f"{said}; team_type {' and '.join(others)} has it" if others else said

    def _modes(self) -> str:
        return "; ".join(f"{place.manifest.name}: {', '.join(place.manifest.modes)}" for place in self.places())
