"""Where tests put what they write much of: databases above all, hundreds in a run, which cost a disk more than a processor."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 2**31
"""Bytes that must be free there, so that all test workers together do not fill a small machine's memory."""


def scratch() -> Path:
    """A new directory that the database's user can reach, unlike pytest's own; in memory where there is room."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    path = Path(tempfile.mkdtemp(prefix="auralink-", dir=MEMORY if roomy else None))
    path.chmod(0o711)
    return path


@contextlib.contextmanager
def scratched() -> Iterator[Path]:
    """Such a directory for as long as the block lasts."""
    path = scratch()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
