"""Makes an engine's environment from its lock: with uv in seconds; with pip where uv fails, since it does not read pip's configuration.

Hashes are required and nothing is resolved: what the lock says is what is installed. The environment counts as installed when its
stamp, which names the lock, has been written last; an interrupted installation is done again from the beginning.
"""

import fcntl
import importlib.util
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from auralink.core.errors import AuralinkError
from auralink.runs.engine_manifest import Place

Progress = Callable[[str], None]
LAST_LINES = 12


class InstallationFailed(AuralinkError):
    """The engine's environment could not be made."""

    code: ClassVar[str] = "engine_installation_failed"
    title: ClassVar[str] = "Engine installation failed"


def install(place: Place, progress: Progress, *, again: bool = False) -> bool:
    """Installs an engine if it is not, or with `again` in any case; tells whether it did. Raises InstallationFailed.

    Safe to call from several processes at once: the others wait for the first.
    """
    name = place.manifest.name
    with _alone(place.folder):
        if place.state() == "installed" and not again:
            place.stamp.touch()  # make compares times
            return False
        place.stamp.unlink(missing_ok=True)
        progress(f"{name}: making the environment")
        venv.create(place.environment, clear=True, symlinks=True, with_pip=False)
        progress(f"{name}: installing {_count(place.lock)} packages")
        _install_lock(place)
        place.stamp.write_text(place.lock_digest(), encoding="ascii")
    progress(f"{name}: installed")
    return True


def _install_lock(place: Place) -> None:
    said = "neither uv nor pip is there to install with; run `python -m ensurepip` in the service's environment"
    for command in _installers(place.python):
        done = subprocess.run([*command, "--require-hashes", "-r", str(place.lock)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        last = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        said = "\n".join((f"{Path(command[0]).name} said:", *last))
    raise InstallationFailed(f"the engine {place.manifest.name!r} could not be installed; {said}")


def _installers(python: Path) -> Iterator[list[str]]:
    """The commands to try, in order."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is not None:
        yield [uv, "pip", "install", "--quiet", "--python", str(python)]
    if importlib.util.find_spec("pip") is not None:
        quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--quiet", "--retries", "2"]
        yield [sys.executable, "-m", "pip", "--python", str(python), "install", *quiet]


def _count(lock: Path) -> int:
    return sum(1 for line in lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum() and "==" in line)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".venv.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
