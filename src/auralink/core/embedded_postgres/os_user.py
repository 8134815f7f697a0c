"""The OS user under whom Postgres runs. Postgres refuses root, so a service that is root starts it as somebody else."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from auralink.core.errors import StartupError

CANDIDATES = ("auralink", "postgres", "nobody")
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
"""All that Postgres's programs see of our environment: no secret, no PG* variable, no language to parse."""


class ProcessOptions(TypedDict, total=False):
    """The arguments of `subprocess` that run a program as this user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class OsUser:
    """A user of the machine."""

    name: str
    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        """Whether this process runs as this user already."""
        return self.uid == os.geteuid()

    @property
    def process_options(self) -> ProcessOptions:
        """What `subprocess` needs to run a program as this user and with none of our groups."""
        return {} if self.is_self else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def take(self, path: Path) -> None:
        """Makes the user the owner of `path`."""
        if not self.is_self:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(self, command: Sequence[str | Path], *, keep_open: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a program of Postgres to its end; stdout and stderr come back together in `stdout`.

        Raises:
            OSError: it cannot be executed.
        """
        return subprocess.run(
            command,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=keep_open,
            check=False,
            **self.process_options,
        )


def current_user() -> OsUser:
    """The user of this process; one without an entry in the user database is called by its number."""
    return _named(os.geteuid(), os.getegid())


def database_user(cluster: Path) -> OsUser:
    """The user who owns the cluster, or will: ourselves, unless we are root.

    Raises:
        StartupError: the cluster belongs to somebody as whom we cannot run it, or there is no unprivileged user.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        if owner and owner.st_uid != os.geteuid():
            name = _named(owner.st_uid, owner.st_gid).name
            raise StartupError(
                f"{cluster} belongs to the user {name!r}; run as that user, or set AURALINK_DATA_DIR to another directory"
            )
        return current_user()
    if owner and owner.st_uid == 0:
        raise StartupError(f"{cluster} belongs to root, as whom Postgres does not run; chown -R it to an unprivileged user")
    return _named(owner.st_uid, owner.st_gid) if owner else _unprivileged_user()


def _named(uid: int, gid: int) -> OsUser:
    try:
        return OsUser(pwd.getpwuid(uid).pw_name, uid, gid)
    except KeyError:
        return OsUser(str(uid), uid, gid)


def _unprivileged_user() -> OsUser:
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OsUser(name, entry.pw_uid, entry.pw_gid)
    raise StartupError(
        "Postgres does not run as root and there is no unprivileged user to run it; add one with `useradd --system auralink`"
    )
