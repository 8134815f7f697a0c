"""The indexing process: `python -m auralink.servers.deepwiki.build`, one job on stdin, JSON lines on stdout.

A process of its own, so that parsing a repository blocks no event loop, its memory goes back to the system, and a limit
of size, time or memory ends it without harm. It ends by itself when its parent does (stdin closes).
"""

import fcntl
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from auralink.core.errors import AuralinkError
from auralink.servers.deepwiki.cloning import Redirected, fetch
from auralink.servers.deepwiki.errors import IndexingFailed
from auralink.servers.deepwiki.repository import plain_fingerprint
from auralink.servers.deepwiki.snapshots import GitSnapshot, PlainSnapshot, Snapshot
from auralink.servers.deepwiki.writing import update

_MEMORY = 4 << 30


def main() -> int:
    """Do the job; the last line says `done` or `error`. Exit code 0 if it could say one of the two."""
    job = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit(job)
    try:
        with _locked(Path(job["home"])):
            _run(job)
    except Redirected as redirect:
        _say("redirect", url=redirect.url)
    except AuralinkError as error:
        _say("error", code=error.code, message=error.message)
    except (OSError, MemoryError) as error:
        failed = IndexingFailed(f"Indexing stopped: {error or type(error).__name__}.")
        _say("error", code=failed.code, message=failed.message)
    return 0


def _run(job: dict[str, Any]) -> None:
    home, kind = Path(job["home"]), job["kind"]
    if kind == "clone" and (job["fetch"] or not (home / "fetched").exists()):
        _say("progress", stage="clone", done=0, total=0)
        fetch(job["location"], home / "repo.git", addresses=job["addresses"], max_bytes=job["max_bytes"])
        (home / "fetched").touch()
        _forget_clones(home.parent, keep=job["max_clones"])
    snapshot, fingerprint = _snapshot(job)
    try:
        update(home, snapshot, fingerprint, lambda stage, done, total: _say("progress", stage=stage, done=done, total=total))
    finally:
        snapshot.close()
    _say("done")


def _snapshot(job: dict[str, Any]) -> tuple[Snapshot, str]:
    if job["kind"] != "plain":
        path = Path(job["home"]) / "repo.git" if job["kind"] == "clone" else Path(job["location"])
        return GitSnapshot(path), ""
    path, excluded = Path(job["location"]), Path(job["excluded"])
    fingerprint = plain_fingerprint(path, excluded)
    return PlainSnapshot(path, excluded), fingerprint


def _forget_clones(folder: Path, keep: int) -> None:
    """Delete the clones that were not fetched for longest, beyond `keep`; one that is being worked on stays."""
    clones = sorted(folder.glob("*/fetched"), key=lambda mark: mark.stat().st_mtime, reverse=True)
    for mark in clones[keep:]:
        with (mark.parent / "lock").open("w") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One indexing process per repository, across services that share a data directory; released however it ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _limit(job: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError):  # a hard limit may already be lower
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["max_bytes"], job["max_bytes"]))
    os.nice(2)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)  # this process leads a group of its own, the helpers it started are in it


def _say(event: str, **fields: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # dulwich's finalizers complain when the interpreter shuts down
