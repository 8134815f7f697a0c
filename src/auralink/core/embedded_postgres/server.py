"""The story of a start, top to bottom: directory, lock, passwords, cluster, process, roles."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psycopg

from auralink.core.embedded_postgres.binaries import MAJOR, Binaries, binaries_for
from auralink.core.embedded_postgres.cluster import ROLE_NAMES, Cluster, Passwords
from auralink.core.embedded_postgres.directory import (
    exclusive,
    in_one_line,
    prepare_data_dir,
    socket_dir,
    sync_directory,
)
from auralink.core.embedded_postgres.os_user import OsUser, database_user
from auralink.core.embedded_postgres.postmaster import (
    Launch,
    Phase,
    Postmaster,
    failure_reason,
    halt,
    run_until_ready,
    start_failed,
)
from auralink.core.embedded_postgres.roles import bootstrap_roles, close_other_databases, create_database
from auralink.core.errors import StartupError

SOCKET_PORT = 5432
"""The number in the socket's name where there is no TCP port; the directory is the server's own, so nothing can take it."""

Progress = Callable[[str], None]
State = Literal["absent", "stopped"] | Phase


def _silent(_: str) -> None:
    pass


def start(data_dir: Path, *, tcp_port: int | None = None, progress: Progress = _silent) -> Cluster:
    """The running server of `data_dir`: made at the first start, started if it is stopped, attached to if it runs.

    It listens on a unix socket and, if `tcp_port` is given, on that port of 127.0.0.1. `progress` hears of what takes time.

    Raises:
        StartupError: one line that says why it cannot run and what to do.
    """
    data_dir = data_dir.expanduser().absolute().resolve()
    cluster = data_dir / "postgres"
    with in_one_line(data_dir):
        user = database_user(cluster)
        prepare_data_dir(data_dir, user)
        with exclusive(data_dir, progress) as lock:
            passwords = _passwords(data_dir, cluster)
            binaries = binaries_for(user, data_dir, progress)
            if not _initialised(cluster):
                progress(f"creating the database in {cluster}")
                _initialise(cluster, binaries, user, passwords, lock)
            running = _serve(data_dir, binaries, user, tcp_port, progress)
            found = Cluster(data_dir, running.socket_dir, running.port, running.tcp, passwords)
            _bootstrap(found)
            return found


def stop(data_dir: Path) -> bool:
    """Stops the server of `data_dir`, whoever started it, cutting its sessions. True if there was one.

    Raises:
        StartupError: it belongs to another user, or does not stop.
    """
    data_dir = data_dir.expanduser().absolute().resolve()
    with in_one_line(data_dir):
        database_user(data_dir / "postgres")
        if status(data_dir) == "absent":
            return False
        with exclusive(data_dir, _silent):
            return halt(data_dir / "postgres")


def status(data_dir: Path) -> State:
    """What the server of `data_dir` is doing; `absent` if there has never been one.

    Raises:
        StartupError: the directory cannot be read.
    """
    cluster = data_dir / "postgres"
    with in_one_line(data_dir):
        if not (cluster / "PG_VERSION").exists():
            return "absent"
        running = Postmaster.find(cluster)
        return running.phase if running else "stopped"


def find_cluster(data_dir: Path) -> Cluster | None:
    """The server of `data_dir` if it runs; nothing is started.

    Raises:
        StartupError: the directory cannot be read.
    """
    data_dir = data_dir.expanduser().absolute().resolve()
    with in_one_line(data_dir):
        if status(data_dir) != "running" or not (running := Postmaster.find(data_dir / "postgres")):
            return None
        passwords = Passwords.read(_password_file(data_dir))
        return Cluster(data_dir, running.socket_dir, running.port, running.tcp, passwords)


def _password_file(data_dir: Path) -> Path:
    return data_dir / "postgres-passwords.json"


def _bootstrapped_mark(data_dir: Path) -> Path:
    """The file that says that roles and database are complete."""
    return data_dir / "postgres.bootstrapped"


def _passwords(data_dir: Path, cluster: Path) -> Passwords:
    path = _password_file(data_dir)
    try:
        return Passwords.read(path)
    except FileNotFoundError:
        if cluster.exists() and any(cluster.iterdir()):
            raise StartupError(
                f"{path} is missing; restore it from a backup, the database in {cluster} cannot be opened without it"
            ) from None
    passwords = Passwords.generate()
    passwords.write(path)
    return passwords


def _initialised(cluster: Path) -> bool:
    """Whether there is a cluster; refuses one of another major version, and a directory that is something else."""
    try:
        version = (cluster / "PG_VERSION").read_text("ascii").strip()
    except FileNotFoundError:
        if cluster.exists() and any(cluster.iterdir()):
            raise StartupError(f"{cluster} is not a Postgres data directory; move it away, or set AURALINK_DATA_DIR") from None
        return False
    if version != str(MAJOR):
        raise StartupError(
            f"{cluster} was made by Postgres {version} and this version brings Postgres {MAJOR}; dump it with the version of "
            "AuraLink that made it and load it into a new directory, or set AURALINK_DATA_DIR to another one"
        )
    return True


def _initialise(cluster: Path, binaries: Binaries, user: OsUser, passwords: Passwords, lock: int) -> None:
    """Makes the cluster beside its place and moves it there when it is whole.

    An `initdb` that outlives us keeps the lock, so nobody meets it half-way.
    """
    for leftover in cluster.parent.glob("postgres.init-*"):
        shutil.rmtree(leftover)
    work = Path(tempfile.mkdtemp(prefix="postgres.init-", dir=cluster.parent))
    try:
        password = work / "password"
        password.write_text(passwords.superuser.reveal(), "ascii")
        user.take(password)
        user.take(work)
        superuser = f"--username={ROLE_NAMES['superuser']}"
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = [superuser, "--auth=scram-sha-256", f"--pwfile={password}"]
        command: list[str | Path] = [binaries.program("initdb"), "-D", work / "cluster", *access, *locale, "--no-instructions"]
        done = user.run(command, keep_open=[lock])
        if done.returncode != 0:
            raise start_failed(f"cannot create the database in {cluster}", failure_reason(done.stdout))
        _bootstrapped_mark(cluster.parent).unlink(missing_ok=True)
        (work / "cluster").rename(cluster)
        sync_directory(cluster.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _serve(data_dir: Path, binaries: Binaries, user: OsUser, tcp_port: int | None, progress: Progress) -> Postmaster:
    cluster = data_dir / "postgres"
    if Postmaster.find(cluster) is None:
        if tcp_port is not None:
            _check_port(tcp_port)
        progress("starting Postgres")
    sockets = socket_dir(data_dir, user)
    launch = Launch(binaries, user, cluster, sockets, tcp_port or SOCKET_PORT, tcp=tcp_port is not None)
    running = run_until_ready(launch, progress)
    if tcp_port is not None and (running.port, running.tcp) != (tcp_port, True):
        listens = f"on port {running.port}" if running.tcp else "on its socket only"
        raise StartupError(f"Postgres runs already and listens {listens}, not on port {tcp_port}; run `make stop` first")
    return running


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartupError(
                f"port {port} of 127.0.0.1 cannot be used for Postgres ({os.strerror(error.errno or 0)}); choose another one"
            ) from error


def _bootstrap(found: Cluster) -> None:
    """Makes roles and database after the first start, or after one that was killed before they were complete."""
    done = _bootstrapped_mark(found.data_dir)
    if done.exists():
        return
    superuser = found.dsn("superuser", database="postgres")
    try:
        bootstrap_roles(superuser, found.passwords)
        create_database(superuser)
        close_other_databases(superuser)
    except psycopg.Error as error:
        raise start_failed("cannot prepare the database", str(error).strip().splitlines()[0]) from error
    done.touch(mode=0o600)
