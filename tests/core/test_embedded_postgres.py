"""The embedded Postgres, with real processes, real kills and real file systems. What needs root says so."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from auralink.core.embedded_postgres import (
    Cluster,
    Login,
    Passwords,
    binaries,
    bootstrap_roles,
    create_database,
    default_data_dir,
    directory,
    find_cluster,
    start,
    status,
    stop,
)
from auralink.core.embedded_postgres.os_user import OsUser, database_user
from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from tests.places import scratch

AS_ROOT = os.geteuid() == 0
PATIENCE = 20.0

SERVICE = """
import sys
from pathlib import Path
from auralink.core.embedded_postgres import start
start(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""

BUSY_SERVICE = """
import sys
from pathlib import Path
import psycopg
from auralink.core.embedded_postgres import start
cluster = start(Path(sys.argv[1]))
with psycopg.connect(cluster.dsn("owner").reveal(), autocommit=True) as session:
    session.execute("CREATE TABLE kept (n int)")
    session.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
    session.execute("BEGIN; INSERT INTO kept VALUES (0)")
    print("ready", flush=True)
    session.execute("DO $$ BEGIN LOOP END LOOP; END $$")
"""


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def query(cluster: Cluster, statement: str, login: Login = "superuser", *, tcp: bool = False) -> list[tuple[object, ...]]:
    with psycopg.connect(cluster.dsn(login, tcp=tcp).reveal(), autocommit=True) as session:
        return session.execute(statement).fetchall()  # type: ignore[call-overload]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(script: str, data_dir: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def kill(service: subprocess.Popen[str]) -> None:
    service.kill()
    service.communicate()


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory; whatever runs below it is stopped in the end."""
    path = scratch()
    yield path
    for cluster in path.rglob("postgres/PG_VERSION"):
        stop(cluster.parents[1])
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data directory after its first start, stopped."""
    path = scratch()
    start(path / "data")
    stop(path / "data")
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
def data_dir(place: Path, initialised: Path) -> Path:
    """A stopped data directory of the test's own."""
    return copy_of(initialised, place / "data")


def copy_of(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    return target


@pytest.mark.promise("P-NODEFAULT")
def test_the_first_start_makes_a_database_with_passwords_of_its_own(place: Path) -> None:
    told: list[str] = []
    first, second = start(place / "a", progress=told.append), start(place / "b")
    assert told[0].startswith("creating the database")
    assert query(first, "SELECT current_user, current_database()", "service") == [("auralink_app", "auralink")]
    assert query(first, "SELECT current_user", "owner") == [("auralink_owner",)]
    passwords = [c.dsn(login).reveal() for c in (first, second) for login in ("service", "owner", "superuser")]
    assert len(set(passwords)) == 6
    assert "***" in repr(first)
    assert first.passwords.owner.reveal() not in repr(first)


def test_everything_in_the_data_directory_is_private(data_dir: Path) -> None:
    start(data_dir)
    assert stat.S_IMODE((data_dir / "postgres-passwords.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE(data_dir.stat().st_mode) == (0o711 if AS_ROOT else 0o700)


@pytest.mark.promise("P-NODEFAULT")
def test_a_password_is_asked_for_on_the_socket_too(data_dir: Path) -> None:
    cluster = start(data_dir)
    for dsn in (f"host={cluster.socket_dir} user=postgres", f"host={cluster.socket_dir} user=postgres password=wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{dsn} port={cluster.port} dbname=postgres")
    assert query(cluster, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == [("scram-sha-256",)]


def test_psql_understands_the_address(data_dir: Path) -> None:
    dsn = start(data_dir).dsn("service").reveal()
    psql = binaries.find_binaries().program("psql")
    done = subprocess.run([psql, dsn, "-Atc", "SELECT 42"], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_a_second_start_attaches_and_a_stop_ends_it_for_all(data_dir: Path) -> None:
    assert (status(data_dir), find_cluster(data_dir)) == ("stopped", None)
    first = start(data_dir)
    pid = postmaster_pid(data_dir)
    assert start(data_dir) == first == find_cluster(data_dir)
    assert postmaster_pid(data_dir) == pid
    assert status(data_dir) == "running"
    with psycopg.connect(first.dsn("service").reveal()) as idle:
        assert stop(data_dir)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
    assert (status(data_dir), stop(data_dir)) == ("stopped", False)


def test_stopping_what_never_ran_does_nothing(place: Path) -> None:
    assert not stop(place / "nothing")
    assert status(place / "nothing") == "absent"
    assert not (place / "nothing").exists()


def test_after_kill_9_of_the_service_the_next_start_attaches(data_dir: Path) -> None:
    service = launch(SERVICE, data_dir)
    assert service.stdout
    assert service.stdout.readline() == "ready\n"
    pid = postmaster_pid(data_dir)
    kill(service)
    assert query(start(data_dir), "SELECT 1", "service") == [(1,)]
    assert postmaster_pid(data_dir) == pid


def test_after_kill_9_of_service_and_postmaster_together_nothing_committed_is_lost(data_dir: Path) -> None:
    service = launch(BUSY_SERVICE, data_dir)
    assert service.stdout
    assert service.stdout.readline() == "ready\n"
    cluster, pid = start(data_dir), postmaster_pid(data_dir)
    eventually(lambda: query(cluster, "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"))
    service.kill()
    os.kill(pid, signal.SIGKILL)
    recovered = start(data_dir)
    service.communicate()
    assert query(recovered, "SELECT count(*), min(n) FROM kept", "owner") == [(1000, 1)]
    assert postmaster_pid(data_dir) != pid


def test_a_stale_pid_that_another_process_has_by_now_is_no_server(data_dir: Path) -> None:
    start(data_dir)
    cluster, sockets = data_dir / "postgres", data_dir / "run"
    os.kill(postmaster_pid(data_dir), signal.SIGKILL)
    user = database_user(cluster)
    other = subprocess.Popen(["sleep", "600"], **user.process_options)
    try:
        for lock in (cluster / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
            lines = lock.read_text().splitlines(keepends=True)
            lock.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        assert status(data_dir) == "stopped"
        assert query(start(data_dir), "SELECT 1", "service") == [(1,)]
        assert is_alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_two_first_starts_at_once_share_one_server(place: Path) -> None:
    services = [launch(SERVICE, place / "data") for _ in range(2)]
    for service in services:
        assert service.stdout
        assert service.stdout.readline() == "ready\n"
    assert query(start(place / "data"), "SELECT 1", "service") == [(1,)]
    log = "".join(path.read_text() for path in (place / "data/postgres/log").glob("*.log"))
    assert log.count("ready to accept connections") == 1
    for service in services:
        kill(service)


def test_a_data_directory_may_be_moved_while_it_is_stopped(data_dir: Path, place: Path) -> None:
    start(data_dir)
    stop(data_dir)
    moved = data_dir.rename(place / "elsewhere")
    assert query(start(moved), "SELECT 1", "service") == [(1,)]
    assert not data_dir.exists()


def test_a_data_directory_may_be_moved_while_it_is_served(data_dir: Path, place: Path) -> None:
    start(data_dir)
    pid = postmaster_pid(data_dir)
    moved = data_dir.rename(place / "elsewhere")
    assert query(start(moved), "SELECT 1", "service") == [(1,)]
    assert postmaster_pid(moved) == pid
    assert stop(moved)


def test_a_copy_of_a_served_data_directory_gets_a_server_of_its_own(data_dir: Path, place: Path) -> None:
    original = start(data_dir)
    copy = copy_of(data_dir, place / "copy")
    assert status(copy) == "stopped"
    assert start(copy).socket_dir == copy / "run"
    assert postmaster_pid(copy) != postmaster_pid(data_dir)
    assert query(original, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("moment", ["postgres.init-*/cluster/base", "postgres/postmaster.pid"])
def test_a_first_start_that_was_killed_half_way_is_made_good(place: Path, moment: str) -> None:
    data_dir = place / "data"
    service = launch(SERVICE, data_dir)
    eventually(lambda: list(data_dir.glob(moment)))
    os.killpg(service.pid, signal.SIGKILL)
    service.communicate()
    assert query(start(data_dir), "SELECT extname FROM pg_extension ORDER BY 1") == [("plpgsql",), ("vector",)]
    assert not list(data_dir.glob("postgres.init-*"))


def test_an_initdb_that_outlives_its_killed_service_is_waited_for(place: Path) -> None:
    data_dir = place / "data"
    service = launch(SERVICE, data_dir)
    eventually(lambda: list(data_dir.glob("postgres.init-*/cluster/base")))
    kill(service)
    assert query(start(data_dir), "SELECT 1", "service") == [(1,)]
    assert not list(data_dir.glob("postgres.init-*"))


def test_a_deleted_socket_comes_back(data_dir: Path) -> None:
    shutil.rmtree(start(data_dir).socket_dir)
    assert query(start(data_dir), "SELECT 1", "service") == [(1,)]


def test_ctrl_c_in_the_terminal_of_the_service_does_not_reach_the_server(data_dir: Path) -> None:
    service = launch(SERVICE, data_dir)
    assert service.stdout
    assert service.stdout.readline() == "ready\n"
    pid = postmaster_pid(data_dir)
    assert os.getsid(pid) != os.getsid(service.pid)
    os.killpg(service.pid, signal.SIGINT)
    service.communicate()
    assert query(start(data_dir), "SELECT 1", "service") == [(1,)]
    assert postmaster_pid(data_dir) == pid


def test_the_server_holds_neither_the_pipes_nor_the_sockets_of_the_service(data_dir: Path) -> None:
    script = f"""
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
listener.set_inheritable(True)
os.set_inheritable(1, True)
{SERVICE}
print(listener.getsockname()[1])
"""
    service = launch(script, data_dir)
    output, _ = service.communicate(timeout=PATIENCE)  # it ends only when nobody holds the pipe any more
    port = int(output.split()[-1])
    with socket.create_server(("127.0.0.1", port)):
        assert status(data_dir) == "running"


@pytest.mark.promise("P-SECRET")
def test_the_server_sees_no_variable_of_the_service_and_logs_no_statement(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_ENCRYPTION_KEY", "canary-in-the-environment")
    monkeypatch.setenv("PGOPTIONS", "-c application_name=canary")
    cluster = start(data_dir)
    monkeypatch.delenv("PGOPTIONS")
    with pytest.raises(psycopg.errors.DivisionByZero):
        query(cluster, "SELECT 'canary-in-a-statement', 1/0")
    environment = psutil.Process(postmaster_pid(data_dir)).environ()
    assert not [value for value in environment.values() if "canary" in value]
    stop(data_dir)
    log = "".join(path.read_text() for path in (data_dir / "postgres/log").glob("*.log"))
    assert "database system is shut down" in log
    assert "canary" not in log


def test_the_log_is_bounded_to_a_week(data_dir: Path) -> None:
    names = "('log_filename', 'log_truncate_on_rotation', 'log_rotation_age', 'logging_collector')"
    assert query(start(data_dir), f"SELECT setting FROM pg_settings WHERE name IN {names} ORDER BY name") == [
        ("%a.log",),
        ("1440",),
        ("on",),
        ("on",),
    ]


def test_what_is_acknowledged_is_on_the_disk(data_dir: Path) -> None:
    names = "('fsync', 'synchronous_commit', 'full_page_writes')"
    settings = query(start(data_dir), f"SELECT DISTINCT setting FROM pg_settings WHERE name IN {names}")
    assert settings == [("on",)]


def test_a_tcp_port_is_opened_on_loopback_only_when_asked_for(data_dir: Path) -> None:
    with pytest.raises(StartupError, match="on its socket only"):
        start(data_dir).dsn("service", tcp=True)
    port = free_port()
    with pytest.raises(StartupError, match=f"listens on its socket only, not on port {port}"):
        start(data_dir, tcp_port=port)
    stop(data_dir)
    cluster = start(data_dir, tcp_port=port)
    assert query(cluster, "SELECT host(inet_server_addr())", "service", tcp=True) == [("127.0.0.1",)]
    assert query(cluster, "SELECT inet_server_addr()", "service") == [(None,)]
    assert query(cluster, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert start(data_dir) == start(data_dir, tcp_port=port) == cluster


def test_a_long_data_directory_gets_a_short_socket(place: Path, initialised: Path) -> None:
    deep = place / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(mode=0o711)
    cluster = start(copy_of(initialised, deep))
    try:
        assert len(os.fsencode(cluster.socket_dir / ".s.PGSQL.65535")) < 100
        assert stat.S_IMODE(cluster.socket_dir.stat().st_mode) == 0o700
        assert query(cluster, "SELECT 1", "service") == [(1,)]
    finally:
        stop(deep)
        shutil.rmtree(cluster.socket_dir)


@pytest.mark.parametrize("name", ['it\'s an "$(odd)" dir', "a,b"])
def test_a_data_directory_may_have_any_name(place: Path, initialised: Path, name: str) -> None:
    cluster = start(copy_of(initialised, place / name))
    assert query(cluster, "SELECT 1", "service") == [(1,)]
    if "," in name:
        stop(place / name)
        shutil.rmtree(cluster.socket_dir)


# ------------------------------------------------------------------------------------------------------------------- roles


@pytest.mark.promise("P-RLS")
def test_the_service_role_can_neither_bypass_nor_define(data_dir: Path) -> None:
    cluster = start(data_dir)
    powers = """SELECT count(*) FROM pg_roles WHERE rolname LIKE 'auralink%'
        AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)"""
    assert query(cluster, powers) == [(0,)]
    with psycopg.connect(cluster.dsn("service").reveal(), autocommit=True) as session:
        session.execute("SET ROLE auralink_service")
        for statement in ("CREATE TABLE public.t (n int)", "CREATE TEMP TABLE t (n int)", "CREATE SCHEMA s"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        for role in ("auralink_owner", "auralink_system", "postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SET ROLE {role}")  # type: ignore[call-overload]
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(cluster.dsn("service", database=database).reveal())


def test_the_owner_can_hand_a_function_to_the_role_that_crosses_tenants(data_dir: Path) -> None:
    cluster = start(data_dir)
    with psycopg.connect(cluster.dsn("owner").reveal()) as session:
        session.execute("CREATE SCHEMA s; GRANT CREATE, USAGE ON SCHEMA s TO auralink_system")
        session.execute("CREATE FUNCTION s.f() RETURNS int RETURN 1")
        session.execute("ALTER FUNCTION s.f() OWNER TO auralink_system")
        session.execute("REVOKE ALL ON FUNCTION s.f() FROM PUBLIC; GRANT EXECUTE ON FUNCTION s.f() TO auralink_service")
        session.execute("CREATE OR REPLACE FUNCTION s.f() RETURNS int RETURN 2")
        session.execute("CREATE TABLE s.t (v public.vector(3))")


def test_making_the_roles_again_corrects_them_and_their_passwords(data_dir: Path) -> None:
    cluster = start(data_dir)
    with psycopg.connect(cluster.dsn("superuser").reveal()) as session:
        session.execute("ALTER ROLE auralink_app SUPERUSER BYPASSRLS; ALTER ROLE auralink_system LOGIN")
    passwords = Passwords(Secret("s %:/@"), Secret("o"), cluster.passwords.superuser)
    for _ in range(2):
        bootstrap_roles(cluster.dsn("superuser"), passwords)
        create_database(cluster.dsn("superuser"), "another")
    changed = Cluster(cluster.data_dir, cluster.socket_dir, cluster.port, cluster.tcp, passwords)
    flags = "SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname IN ('auralink_app', 'auralink_system')"
    assert sorted(query(changed, flags, "service")) == [(False, False, False), (False, False, True)]
    with psycopg.connect(changed.dsn("owner", database="another").reveal()) as session:
        session.execute("CREATE SCHEMA made_by_the_owner")
    stored = query(cluster, "SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname LIKE 'auralink_%' AND rolcanlogin")
    assert stored == [("SCRAM-SHA-256$",)] * 2


# ------------------------------------------------------------------------------------------------------------------ errors


def fails_with(data_dir: Path, **arguments: int) -> str:
    with pytest.raises(StartupError) as caught:
        start(data_dir, **arguments)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_directory_of_another_major_version_is_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres/PG_VERSION").write_text("16\n")
    message = fails_with(data_dir)
    assert "made by Postgres 16" in message
    assert "AURALINK_DATA_DIR" in message


def test_a_directory_that_is_something_else_is_left_alone(place: Path, data_dir: Path) -> None:
    (data_dir / "postgres/PG_VERSION").unlink()
    assert "is not a Postgres data directory" in fails_with(data_dir)
    assert (data_dir / "postgres/base").exists()


def test_a_taken_port_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 cannot be used" in fails_with(data_dir, tcp_port=port)


def test_a_reason_of_postgres_itself_is_passed_on(data_dir: Path) -> None:
    with (data_dir / "postgres/postgresql.conf").open("a") as file:
        file.write("work_mem = 'plenty'\n")
    assert fails_with(data_dir).startswith("Postgres does not start: configuration file")


def test_a_reason_that_only_the_log_collector_saw_is_passed_on(data_dir: Path) -> None:
    (data_dir / "postgres/global/pg_control").unlink()
    assert fails_with(data_dir).startswith("Postgres does not start: ")
    assert "pg_control" in fails_with(data_dir)


def test_missing_programs_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "PREFIX", "pginstall99")
    assert "the programs of Postgres 18 are missing" in fails_with(place / "data")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "is missing"), ("{", "is damaged"), (json.dumps({"service": "x"}), "is damaged")]
)
def test_lost_or_damaged_passwords_are_said_to_be(data_dir: Path, content: str | None, said: str) -> None:
    passwords = data_dir / "postgres-passwords.json"
    if content is None:
        passwords.unlink()
    else:
        passwords.write_text(content)
    assert said in fails_with(data_dir)


def test_a_file_in_the_place_of_the_data_directory_is_one_line(place: Path) -> None:
    (place / "data").write_text("")
    assert "File exists" in fails_with(place / "data")


def test_a_read_only_directory_is_one_line(place: Path) -> None:
    if AS_ROOT:
        assert "Read-only file system" in in_a_small_file_system(place, "ro,size=1m")
    else:
        place.chmod(0o500)
        message = fails_with(place / "data")
        place.chmod(0o700)
        assert "Permission denied; make it writable" in message


@pytest.mark.parametrize("size", ["16k", "20m", "64m"], ids=["first file", "first start", "later start"])
def test_a_full_disk_is_one_line(place: Path, size: str) -> None:
    if not AS_ROOT:
        pytest.skip("a small file system is mounted by root only")
    message = in_a_small_file_system(place, f"size={size},mode=0711")
    assert "No space left on device; free some space" in message
    assert "\n" not in message


def in_a_small_file_system(place: Path, options: str) -> str:
    """What a first start, or one after the disk was filled, says on a file system mounted for it alone."""
    script = """
import sys
from contextlib import suppress
from pathlib import Path
from auralink.core.embedded_postgres import start, stop
from auralink.core.errors import StartupError
data_dir = Path(sys.argv[1]) / "data"
try:
    start(data_dir)
    stop(data_dir)
    with suppress(OSError), (data_dir / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    start(data_dir)
except StartupError as error:
    print(error.message, end="")
finally:
    stop(data_dir)
"""
    mount = 'mount -t tmpfs -o "$1" auralink "$2" && exec "$3" -c "$4" "$2"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", options, place, sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this root may not mount")
    assert done.returncode == 0, done.stderr
    return done.stdout


# -------------------------------------------------------------------------------------------------------- as root, and not


@pytest.mark.skipif(not AS_ROOT, reason="only root has to become somebody else")
def test_as_root_the_server_runs_as_the_owner_of_its_directory_without_our_groups(data_dir: Path) -> None:
    start(data_dir)
    server = psutil.Process(postmaster_pid(data_dir))
    assert server.uids().effective == (data_dir / "postgres").stat().st_uid != 0
    groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].splitlines()[0]
    assert groups.strip() == ""


@pytest.mark.skipif(not AS_ROOT, reason="only root can give files away")
def test_as_root_a_cluster_of_root_is_refused(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    user = database_user(cluster)
    os.chown(cluster, 0, 0)
    assert "belongs to root" in fails_with(data_dir)
    user.take(cluster)


@pytest.mark.skipif(not AS_ROOT, reason="only root reads what others cannot")
def test_programs_that_the_database_user_cannot_reach_are_copied_once(
    data_dir: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    installed = binaries.find_binaries()
    for name in (f"{binaries.PACKAGE}/{binaries.PREFIX}", f"{binaries.PACKAGE}.libs"):
        shutil.copytree(installed.prefix.parents[1] / name, closed / name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr(binaries, "find_binaries", lambda: binaries.Binaries(closed / binaries.PACKAGE / binaries.PREFIX))
    told: list[str] = []
    assert query(start(data_dir, progress=told.append), "SELECT '[1,2]'::vector::text") == [("[1,2]",)]
    program = psutil.Process(postmaster_pid(data_dir)).cmdline()[0]
    assert Path(program).is_relative_to(data_dir)
    stop(data_dir)
    start(data_dir, progress=told.append)
    assert [line.split(" to ")[0] for line in told if "copying" in line] == ["copying Postgres"]


@pytest.mark.skipif(not AS_ROOT, reason="only root reads what others cannot")
def test_as_root_a_data_directory_that_the_database_user_cannot_reach_is_one_line(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    assert "cannot reach" in fails_with(place / "closed/data")


def test_a_cluster_of_another_user_is_refused_to_a_normal_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(StartupError, match="belongs to the user"):
        database_user(place)


def test_the_data_lies_in_the_checkout_or_in_the_data_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PROJECT_ROOT", place)
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "home"))
    assert default_data_dir() == place / "home/auralink"
    (place / "pyproject.toml").touch()
    assert default_data_dir() == place / ".data"


@pytest.mark.skipif(not AS_ROOT, reason="only root uses directories that the database's user cannot reach")
def test_as_root_an_unreachable_checkout_keeps_its_data_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pyproject.toml").touch()
    monkeypatch.setattr(directory, "PROJECT_ROOT", place)
    place.chmod(0o700)
    chosen = default_data_dir()
    assert chosen.parent == Path("/var/lib/auralink")
    assert len(chosen.name) == 12
    assert default_data_dir() == chosen


@pytest.mark.parametrize(("mode", "passes"), [(0o711, True), (0o700, False), (0o710, False), (0o701, True)])
def test_who_gets_through_is_read_from_the_mode_bits(place: Path, mode: int, passes: bool) -> None:
    (place / "closed").mkdir()
    (place / "closed").chmod(mode)
    assert directory.can_traverse(OsUser("stranger", 54321, 54321), place / "closed/not/yet") is passes
