"""The command line's edges: what an operator types wrong, and what the commands for operators do."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import psycopg
import pytest

from auralink import __version__
from auralink.auth.principal import user_id_of
from auralink.cli import app
from auralink.core import embedded_postgres as embedded
from auralink.core.migrate import all_migrations
from auralink.core.secret import Secret
from auralink.vault.crypto import DataKey, KeyRing, generate_master_key
from tests.conftest import TestDatabase
from tests.isolation.process import auralink_here, free_port, installation, one_line
from tests.service import JWT_SECRET

Auralink = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with installation() as data_dir:
        embedded.start(data_dir)
        yield data_dir


@pytest.fixture
def auralink(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path) -> Auralink:
    """Runs a command on the module's data directory; nothing serves there."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"AURALINK_PORT": str(free_port()), **variables}
        return auralink_here(monkeypatch, capsys, *arguments, data_dir=data_dir, **given)

    return run


def test_the_version_is_printed(auralink: Auralink) -> None:
    assert auralink("version").stdout == f"{__version__}\n"


@pytest.mark.promise("P-SECRET")
def test_a_traceback_shows_no_local_variable() -> None:
    assert not app.pretty_exceptions_enable or not app.pretty_exceptions_show_locals


def test_the_addresses_of_the_database_lead_to_it(auralink: Auralink) -> None:
    for arguments, user in ((("dsn",), "auralink_app"), (("dsn", "--owner"), "auralink_owner")):
        done = auralink(*arguments)
        assert done.returncode == 0, done.stderr
        with psycopg.connect(done.stdout.strip()) as session:
            row = session.execute("SELECT current_user, count(*) FROM auralink.schema_migrations").fetchone()
        assert row == (user, len(all_migrations()))


def test_an_address_over_tcp_is_refused_where_nothing_listens(auralink: Auralink) -> None:
    assert "listens on its socket only" in one_line(auralink("dsn", "--tcp"))


def test_a_token_says_who_and_how_long(auralink: Auralink) -> None:
    done = auralink("token", "--user", "ada", "--role", "admin", "--ttl", "30m", "--email", "ada@example.org")
    claims = jwt.decode(done.stdout.strip(), JWT_SECRET.reveal(), algorithms=["HS256"], audience="auralink")
    assert (claims["sub"], claims["role"], claims["email"], claims["iss"]) == ("ada", "admin", "ada@example.org", "auralink")
    assert claims["exp"] - claims["iat"] == 1800


@pytest.mark.parametrize("ttl", ["", "h", "-1h", "1.5h", "12", "1y", "٣h", "0s", "99999999999999d"])
def test_a_lifetime_that_is_none_is_explained(auralink: Auralink, ttl: str) -> None:
    done = auralink("token", "--ttl", ttl)
    assert done.returncode == 2
    assert "s, m, h or d" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 256])
def test_a_user_that_is_no_name_is_explained(auralink: Auralink, user: str) -> None:
    done = auralink("token", "--user", user)
    assert (done.returncode, done.stdout) == (2, "")
    assert "printable subject" in done.stderr


def test_no_token_is_issued_for_a_database_of_ones_own(auralink: Auralink) -> None:
    line = one_line(auralink("token", DATABASE_URL="postgresql://x/y", JWT_SECRET=""))
    assert "embedded mode only" in line


def test_migrate_is_a_no_op_when_repeated(auralink: Auralink) -> None:
    assert auralink("migrate").stdout == "the schema is up to date\n"


def test_migrate_needs_the_owner_of_a_database_of_ones_own(auralink: Auralink, test_database: TestDatabase) -> None:
    url = test_database.service.reveal()
    done = auralink("migrate", DATABASE_URL=url)
    assert done.returncode != 0
    assert "DATABASE_OWNER_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert auralink("migrate", DATABASE_URL=url, DATABASE_OWNER_URL=test_database.owner.reveal()).returncode == 0
    assert "owner" in one_line(auralink("migrate", DATABASE_URL=url, DATABASE_OWNER_URL=url, JWT_SECRET=""))


@pytest.mark.promise("P-SECRET")
def test_keys_are_rotated_once(auralink: Auralink, data_dir: Path) -> None:
    old, new = generate_master_key(), generate_master_key()
    cluster = embedded.start(data_dir)
    ring, users = KeyRing.parse(old), [user_id_of("auralink", f"user-{n}") for n in range(3)]
    with psycopg.connect(cluster.dsn("superuser").reveal(), autocommit=True) as session:
        session.execute("DELETE FROM auralink.data_keys")
        for user_id in users:
            wrapped = ring.wrap(DataKey.generate(), user_id)
            values = [user_id, wrapped, ring.current_key_id]
            session.execute(
                "INSERT INTO auralink.data_keys (user_id, version, wrapped, master_key_id) VALUES (%s, 1, %s, %s)", values
            )
    both = f"{new.reveal()},{old.reveal()}"
    rotated = KeyRing.parse(Secret(both)).current_key_id
    assert auralink("keys", "rotate", MCP_ENCRYPTION_KEY=both).stdout == f"3 users' keys wrapped anew with {rotated}\n"
    assert auralink("keys", "rotate", MCP_ENCRYPTION_KEY=both).stdout == f"0 users' keys wrapped anew with {rotated}\n"
    assert auralink("keys", "rotate", MCP_ENCRYPTION_KEY=new.reveal()).stdout.startswith("0 users'")
    line = one_line(auralink("keys", "rotate", MCP_ENCRYPTION_KEY=old.reveal()))
    assert rotated in line
    assert new.reveal() not in line


@pytest.mark.promise("P-SECRET")
@pytest.mark.parametrize("key", ["short", "not base64 at all!", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,hidden-word"])
def test_a_wrong_key_is_named_and_not_shown(auralink: Auralink, key: str) -> None:
    line = one_line(auralink("keys", "rotate", MCP_ENCRYPTION_KEY=key))
    assert "MCP_ENCRYPTION_KEY" in line
    assert key.rpartition(",")[2] not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("AURALINK_PORT", "http"), ("AURALINK_MODE", "staging"), ("ALLOWED_NETWORKS", "everywhere"), ("LOG_LEVEL", "x")],
)
@pytest.mark.parametrize("command", ["serve", "stop", "dsn", "migrate", "token", "connections"])
def test_a_wrong_setting_is_one_line_in_every_command(auralink: Auralink, command: str, name: str, value: str) -> None:
    assert f"environment: {name}: " in one_line(auralink(command, **{name: value}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mcp_servers:\n  a:\n    transprot: http\n", ":3: unknown key 'mcp_servers.a.transprot'"),
        ("mcp_servers: [", "not valid YAML"),
        (
            "mcp_servers:\n  a:\n    transport: http\n    endpoint: ${NOWHERE}\n",
            ":4: the environment variable NOWHERE is not set",
        ),
        (None, "cannot read"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_starts_nothing(
    auralink: Auralink, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "mcp.yaml"
    if content is not None:
        path.write_text(content)
    line = one_line(auralink("serve", AURALINK_CONFIG=str(path)))
    assert str(path) in line
    assert said in line


@pytest.mark.parametrize("command", [("connections",), ("tools",), ("call", "a__b"), ("ask", "why?"), ("connect", "deepwiki")])
def test_without_a_service_a_users_command_says_so_in_one_line(auralink: Auralink, command: tuple[str, ...]) -> None:
    assert "no AuraLink service answers at http://127.0.0.1:" in one_line(auralink(*command))


@pytest.mark.parametrize(
    "arguments", [("call", "a__b", "{"), ("call", "a__b", "[1]"), ("disconnect", "no-id"), ("nonsense",), ("serve", "x")]
)
def test_wrong_arguments_are_explained(auralink: Auralink, arguments: tuple[str, ...]) -> None:
    done = auralink(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr


@pytest.mark.parametrize("source", ["api_key", "api_key=", "api_key=NOT_SET", "password=PATH"])
def test_a_credential_comes_from_a_variable_that_is_set(auralink: Auralink, source: str) -> None:
    done = auralink("connect", "deepwiki", "--credential-env", source)
    assert done.returncode == 2
    assert "KIND=VARIABLE" in done.stderr


def test_the_doctor_finds_a_healthy_installation_healthy(auralink: Auralink) -> None:
    done = auralink("doctor")
    assert "BAD" not in re.sub(r"BAD  engine \w+: outdated; `auralink engines install \w+`", "", done.stdout)
    assert re.search(
        r"^(ok  |BAD ) engine langgraph: (installed$|(outdated|missing); `auralink engines install langgraph`$)",
        done.stdout,
        re.MULTILINE,
    )
    for what in ("python", "settings", "configuration", "database", "secrets", "service"):
        assert f"ok   {what}: " in done.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AURALINK_PORT": "x"}, "BAD  settings: environment: AURALINK_PORT"),
        ({"AURALINK_CONFIG": "/nowhere.yaml"}, "BAD  configuration: cannot read /nowhere.yaml"),
        ({"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/x"}, "BAD  database: "),
        ({"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/x", "JWT_SECRET": ""}, "BAD  secrets: set JWT_SECRET"),
        ({"MCP_ENCRYPTION_KEY": "short"}, "BAD  secrets: MCP_ENCRYPTION_KEY"),
        ({"JWT_SECRET": "short"}, "BAD  secrets: JWT_SECRET"),
    ],
)
def test_the_doctor_says_what_is_wrong(auralink: Auralink, variables: dict[str, str], said: str) -> None:
    done = auralink("doctor", **variables)
    assert done.returncode == 1, done.stdout
    assert said in done.stdout
    assert "hidden-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_looks_into_a_database_of_ones_own(auralink: Auralink, test_database: TestDatabase) -> None:
    key = generate_master_key().reveal()
    healthy = auralink("doctor", DATABASE_URL=test_database.service.reveal(), MCP_ENCRYPTION_KEY=key)
    assert "ok   database: " in healthy.stdout, healthy.stdout
    with psycopg.connect(test_database.superuser.reveal(), autocommit=True) as session:
        session.execute("ALTER TABLE auralink.data_keys NO FORCE ROW LEVEL SECURITY")
    done = auralink("doctor", DATABASE_URL=test_database.service.reveal(), MCP_ENCRYPTION_KEY=key)
    assert done.returncode == 1
    assert "data_keys" in done.stdout


def test_the_models_are_listed_and_synchronised_without_a_network(auralink: Auralink) -> None:
    listed = auralink("models", "list", "anthropic", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "anthropic/claude-opus-5-5" in {model["model_id"] for model in json.loads(listed.stdout)}
    lines = auralink("models", "list").stdout.splitlines()
    longest = max((model["model_id"] for model in json.loads(auralink("models", "list", "--json").stdout)), key=len)
    assert [line for line in lines if line.startswith(longest + " ")], "nothing is cut in a pipe"
    unknown = auralink("models", "list", "antropic")
    assert unknown.returncode == 2
    assert "(did you mean 'anthropic'?)" in " ".join(unknown.stderr.split())
    done = auralink("models", "sync", "--offline")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 models changed; prices of \d{4}-\d\d-\d\d \(genai-prices [\d.]+\)$", done.stdout, re.MULTILINE)
