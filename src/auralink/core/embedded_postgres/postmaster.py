"""The server process: found, started, awaited and stopped through `postmaster.pid`, `pg_ctl` and `pg_isready`."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import psutil

from auralink.core.embedded_postgres.binaries import Binaries
from auralink.core.embedded_postgres.directory import NO_SPACE
from auralink.core.embedded_postgres.os_user import ENVIRONMENT, OsUser
from auralink.core.errors import StartupError

START_TIMEOUT = 120.0
"""Seconds; crash recovery after a long write may take a good part of it."""
STOP_TIMEOUT = 30.0
POLL = 0.02
QUIET = 1.0
"""Seconds of waiting after which the user is told."""

SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
    # A query whose client was killed ends within a second, so that no orphan holds the data directory for long.
    "client_connection_check_interval": "1s",
    # A file per weekday, overwritten after a week. The errors of statements are not in it: they go to the client, who logs
    # them, and could quote a user's data.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

FIRST_LOG = "start.log"
"""What the server says before its log collector works; in the cluster."""

Phase = Literal["starting", "running", "stopping"]
PHASES: dict[str, Phase] = {"ready": "running", "standby": "running", "stopping": "stopping"}
STILL_IN_USE = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


@dataclass(frozen=True)
class Postmaster:
    """A live server process of one data directory, as its pid file describes it."""

    pid: int
    port: int
    socket_dir: Path
    tcp: bool
    phase: Phase

    @classmethod
    def find(cls, cluster: Path) -> Self | None:
        """The process that serves `cluster`, or None: a pid file may be left over, its pid taken by another process by now."""
        try:
            text = (cluster / "postmaster.pid").read_text("utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None
        lines = [line.strip() for line in text.splitlines()] + [""] * 8
        if not lines[0].isdigit() or not _serves(int(lines[0]), lines[1], cluster):
            return None
        return cls(
            pid=int(lines[0]),
            port=int(lines[3] or 0),
            socket_dir=_socket_dir(cluster, Path(lines[4]), lines[3]),
            tcp=bool(lines[5]),
            phase=PHASES.get(lines[7], "starting"),
        )

    @property
    def socket(self) -> Path:
        """The unix socket, there or not."""
        return self.socket_dir / f".s.PGSQL.{self.port}"

    def accepts(self, binaries: Binaries) -> bool:
        """Whether it takes connections now."""
        if self.phase != "running":
            return False
        command: list[str | Path] = [binaries.program("pg_isready"), "-q", "-h", self.socket_dir, "-p", str(self.port)]
        done = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False)
        return done.returncode == 0


def _serves(pid: int, started_as: str, cluster: Path) -> bool:
    """Whether `pid` is a postmaster started on the directory `started_as`, and that is `cluster` (moved, perhaps, not copied)."""
    try:
        program, *arguments = psutil.Process(pid).cmdline() or [""]
    except psutil.Error:
        return False
    if Path(program).name != "postgres" or ("-D", started_as) not in pairwise(arguments):
        return False
    origin = Path(started_as)
    return not origin.exists() or origin.samefile(cluster)


def _socket_dir(cluster: Path, written: Path, port: str) -> Path:
    """Where the socket is: where the server made it, unless the data directory was moved since."""
    moved = cluster.parent / "run"
    name = f".s.PGSQL.{port}"
    return moved if not (written / name).exists() and (moved / name).exists() else written


@dataclass(frozen=True)
class Launch:
    """All that a start needs; nothing of it is written into the cluster, which may therefore be moved while it is stopped."""

    binaries: Binaries
    user: OsUser
    cluster: Path
    socket_dir: Path
    port: int
    tcp: bool

    @property
    def command(self) -> list[str | Path]:
        """`pg_ctl start`, to be run in the cluster's directory, with the settings for `postgres`.

        `pg_ctl` composes a shell command and quotes it badly, so the paths of ours are quoted here, or relative.
        """
        socket_dir = str(self.socket_dir).replace('"', '""')
        settings = SETTINGS | {
            "unix_socket_directories": f'"{socket_dir}"',
            "port": str(self.port),
            "listen_addresses": "127.0.0.1" if self.tcp else "",
        }
        arguments = ["-D", str(self.cluster)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        timeout = str(round(START_TIMEOUT))
        program = self.binaries.program("pg_ctl")
        return [program, "start", "-s", "-w", "-t", timeout, "-l", FIRST_LOG, "-o", shlex.join(arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """What `pg_ctl` needs to know beside its command."""
        return ENVIRONMENT | {"PGDATA": str(self.cluster)}


class Wait:
    """Waiting in short steps, of which the user is told once when it has become long."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._began = time.monotonic()
        self._progress = progress
        self._told = False

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._began

    def a_moment(self) -> None:
        """One step."""
        if self.seconds > QUIET and not self._told:
            self._told = True
            self._progress("waiting for Postgres (an earlier server is ending, or it recovers from a crash)")
        time.sleep(POLL)


def run_until_ready(launch: Launch, progress: Callable[[str], None]) -> Postmaster:
    """The server of `launch.cluster`, accepting connections: the one that runs, or a new one.

    Processes of a killed server may hold the directory for a moment; they are waited for.

    Raises:
        StartupError: it does not start (the reason is Postgres's own), or not within `START_TIMEOUT`.
    """
    wait, obstacle = Wait(progress), "it is still starting"
    while wait.seconds < START_TIMEOUT:
        running = Postmaster.find(launch.cluster)
        if running is None:
            obstacle = _start(launch, wait) or obstacle
        elif running.accepts(launch.binaries):
            return running
        elif running.phase == "running" and not running.socket.exists():
            progress("restarting Postgres, whose socket was deleted")
            halt(launch.cluster)
        wait.a_moment()
    raise StartupError(
        f"Postgres did not become ready within {START_TIMEOUT:.0f} s ({obstacle}); see {launch.cluster / 'log'}, then start again"
    )


def _start(launch: Launch, wait: Wait) -> str | None:
    """One attempt. Returns when the server is ready, or what it met if that is about to end: processes of an earlier server."""
    _forget_stale_pids(launch)
    (launch.cluster / FIRST_LOG).unlink(missing_ok=True)
    logged = {path: path.stat().st_size for path in (launch.cluster / "log").glob("*.log")}
    with subprocess.Popen(
        launch.command,
        cwd=launch.cluster,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **launch.user.process_options,
    ) as starter:
        while starter.poll() is None:
            running = Postmaster.find(launch.cluster)
            if running and running.accepts(launch.binaries):
                starter.kill()  # it only waits, in steps of 0.1 s, for what we know already
                return None
            wait.a_moment()
        if starter.returncode == 0:
            return None
        assert starter.stderr
        said = starter.stderr.read().decode(errors="replace")
    reason = failure_reason(f"{said}\n{_logged_since(launch.cluster, logged)}")
    if not any(phrase in reason for phrase in STILL_IN_USE):
        raise start_failed("Postgres does not start", reason)
    return reason


def _forget_stale_pids(launch: Launch) -> None:
    """Removes lock files of a dead server whose pid is another process's by now, or a zombie's; Postgres would believe them."""
    for path in (launch.cluster / "postmaster.pid", launch.socket_dir / f".s.PGSQL.{launch.port}.lock"):
        with suppress(FileNotFoundError, ValueError):
            pid = path.read_text("utf-8", errors="surrogateescape").split("\n", 1)[0]
            if psutil.pid_exists(int(pid)) and Postmaster.find(launch.cluster) is None:
                path.unlink()


def _logged_since(cluster: Path, sizes: dict[Path, int]) -> str:
    logs = [cluster / FIRST_LOG, *sorted((cluster / "log").glob("*.log"))]
    return b"\n".join(path.read_bytes()[sizes.get(path, 0) :] for path in logs if path.exists()).decode(errors="replace")


def failure_reason(output: str) -> str:
    """The one line of a program's output that says why it failed: the first that it calls an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if found := re.search(r"(?:PANIC|FATAL|ERROR|error): +(.*)", line):
            return found[1]
    return lines[-1] if lines else "no reason given"


def start_failed(what: str, reason: str) -> StartupError:
    """The error for a failed program, with advice where the reason has one."""
    hint = f"; {NO_SPACE}" if "No space left on device" in reason else ""
    return StartupError(f"{what}: {reason}{hint}")


def halt(cluster: Path) -> bool:
    """Stops the server: first as a fast shutdown (sessions are cut, everything is written), then as an immediate one.

    Returns whether there was one.

    Raises:
        StartupError: it is still there.
    """
    running = Postmaster.find(cluster)
    if running is None:
        return False
    for how in (signal.SIGINT, signal.SIGQUIT):
        with suppress(ProcessLookupError):
            os.kill(running.pid, how)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if Postmaster.find(cluster) is None:
                return True
            time.sleep(POLL)
    raise StartupError(f"Postgres (process {running.pid}) does not stop; end it with `kill -9 {running.pid}`")
