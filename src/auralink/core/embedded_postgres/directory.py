"""The data directory: where it is, who may reach it, how a file in it is written, and what is said when it cannot be."""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from auralink.core.embedded_postgres.os_user import OsUser, database_user
from auralink.core.errors import StartupError
from auralink.core.settings import PROJECT_ROOT

MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 107 on Linux and 103 on macOS."""
SYSTEM_DATA = Path("/var/lib/auralink")
SOCKETS = Path("/tmp")  # noqa: S108  # every user's and short; what is made in it is checked for its owner
NO_SPACE = "free some space there, or set AURALINK_DATA_DIR to a directory on another disk"
NO_ACCESS = "make it writable, or set AURALINK_DATA_DIR to a directory that is"


def default_data_dir() -> Path:
    """Where the data lies unless the operator says otherwise: `.data` in the checkout, else the user's data home.

    As root, a place that the database's user could not reach (a checkout below /root) is replaced by one under /var/lib.
    """
    if (PROJECT_ROOT / "pyproject.toml").is_file():
        preferred = PROJECT_ROOT / ".data"
    else:
        home = os.environ.get("XDG_DATA_HOME", "")
        preferred = (Path(home) if home.startswith("/") else Path.home() / ".local/share") / "auralink"
    if os.geteuid() != 0 or can_traverse(database_user(preferred / "postgres"), preferred.parent):
        return preferred
    return SYSTEM_DATA / fingerprint(preferred, 12)


def fingerprint(path: Path, digits: int) -> str:
    """A short name that stands for a path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:digits]


def can_traverse(user: OsUser, directory: Path) -> bool:
    """Whether the mode bits let `user` through `directory` and everything above it; what does not exist yet counts as open."""
    for part in (directory, *directory.parents):
        try:
            status = part.stat()
        except FileNotFoundError:
            continue
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not (status.st_mode >> shift) & stat.S_IXOTH:
            return False
    return True


def prepare_data_dir(data_dir: Path, user: OsUser) -> None:
    """Makes the directory, private to the service except that the database's user gets through it.

    Raises:
        StartupError: the database's user cannot reach it.
        OSError: it cannot be made.
    """
    data_dir.mkdir(mode=0o700 if user.is_self else 0o711, parents=True, exist_ok=True)
    if user.is_self:
        return
    if not can_traverse(user, data_dir):
        data_dir.chmod(stat.S_IMODE(data_dir.stat().st_mode) | 0o011)
    if not can_traverse(user, data_dir):
        raise StartupError(
            f"the database runs as the OS user {user.name!r}, who cannot reach {data_dir}; "
            "set AURALINK_DATA_DIR to a directory below /var/lib or another one open to that user"
        )


def make_private(path: Path, user: OsUser) -> Path:
    """A directory that only `user` (and root) may enter.

    Raises:
        StartupError: somebody else made it first.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (user.uid, os.geteuid()):
        raise StartupError(f"{path} belongs to another user; remove it, or set AURALINK_DATA_DIR to a shorter path")
    path.chmod(0o700)
    user.take(path)
    return path


def socket_dir(data_dir: Path, user: OsUser) -> Path:
    """The directory of the unix socket, made: `run` in the data directory, or a short one where that path would not do.

    It must not be too long for the kernel, and libpq takes a comma for the end of a host's name.
    """
    inside = data_dir / "run"
    if len(os.fsencode(inside / ".s.PGSQL.65535")) < MAX_SOCKET_PATH and "," not in str(inside):
        return make_private(inside, user)
    return make_private(SOCKETS / f"auralink-{fingerprint(data_dir, 16)}", user)


def write_atomically(path: Path, text: str) -> None:
    """Writes a file of mode 0600 so that a kill or a power cut leaves the whole of it or nothing."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename in `path` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(data_dir: Path, progress: Callable[[str], None]) -> Iterator[int]:
    """Lets one process at a time start or stop the server; the kernel frees a killed one's lock. Yields its handle."""
    handle = os.open(data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that starts or stops Postgres")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def in_one_line(data_dir: Path) -> Iterator[None]:
    """Turns what the operating system refuses inside into one line that says which path, why, and what to do."""
    try:
        yield
    except OSError as error:
        path = error.filename or data_dir
        raise StartupError(f"cannot use {path}: {error.strerror or error}{advice(error.errno)}") from error


def advice(code: int | None) -> str:
    """What an operator can do about an error of the file system; empty if nothing general can be said."""
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"; {NO_SPACE}"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
        return f"; {NO_ACCESS}"
    return ""
