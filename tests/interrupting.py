"""What dies in tests: workers of their own, and the processes that a worker has started."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.isolation.process import COMMAND
from tests.service import JWT_SECRET
from tests.worlds import ENGINE


@contextlib.contextmanager
def worker(place: Path, engine: str = ENGINE, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`auralink worker` as a process of its own, killed after the block."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {**kept, "AURALINK_DATA_DIR": str(place / "data"), "JWT_SECRET": JWT_SECRET.reveal(), **variables}
    with (place / "worker.log").open("ab") as log:
        process = subprocess.Popen([*COMMAND, "worker", "--engine", engine], env=environment, cwd="/", stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def children_of(parent: int, words: str) -> list[int]:
    """The children of a process whose command line has some words."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            ppid = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if ppid == parent and words in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found
