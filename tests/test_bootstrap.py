"""What the embedded mode makes at its first start, and what must be given without it."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from auralink import bootstrap
from auralink.bootstrap import GENERATED, SECRETS_FILE, embedded_jwt_secret, lay_foundation
from auralink.core import embedded_postgres as embedded
from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from auralink.vault.crypto import generate_master_key
from tests.conftest import TestDatabase
from tests.isolation.process import installation

KEY = generate_master_key()


@pytest.fixture(scope="module")
def module_dir() -> Iterator[Path]:
    """A data directory whose Postgres runs."""
    with installation() as data_dir:
        embedded.start(data_dir)
        yield data_dir


@pytest.fixture
def data_dir(module_dir: Path) -> Path:
    """The same without generated secrets."""
    (module_dir / SECRETS_FILE).unlink(missing_ok=True)
    return module_dir


def settings(data_dir: Path, **fields: object) -> Settings:
    return Settings(_env_file=None, auralink_data_dir=data_dir, **fields)  # type: ignore[call-arg,arg-type]


@pytest.mark.promise("P-NODEFAULT")
def test_the_first_start_makes_secrets_of_its_own_and_later_ones_keep_them(data_dir: Path) -> None:
    first = lay_foundation(settings(data_dir))
    made = (data_dir / SECRETS_FILE).read_text()
    assert json.loads(made).keys() == GENERATED.keys()
    assert stat.S_IMODE((data_dir / SECRETS_FILE).stat().st_mode) == 0o600
    second = lay_foundation(settings(data_dir))
    assert (data_dir / SECRETS_FILE).read_text() == made
    assert first.jwt_secret == second.jwt_secret == embedded_jwt_secret(settings(data_dir))
    assert first.ring.current_key_id == second.ring.current_key_id


@pytest.mark.promise("P-NODEFAULT")
def test_two_installations_have_nothing_in_common(data_dir: Path) -> None:
    lay_foundation(settings(data_dir))
    one = json.loads((data_dir / SECRETS_FILE).read_text())
    (data_dir / SECRETS_FILE).unlink()
    lay_foundation(settings(data_dir))
    other = json.loads((data_dir / SECRETS_FILE).read_text())
    assert [name for name in one if one[name] == other[name]] == []


def test_a_secret_that_an_earlier_version_did_not_have_is_added_and_the_others_stay(data_dir: Path) -> None:
    lay_foundation(settings(data_dir))
    kept = json.loads((data_dir / SECRETS_FILE).read_text())
    (data_dir / SECRETS_FILE).write_text(json.dumps({name: kept[name] for name in ("jwt_secret", "mcp_encryption_key")}))
    lay_foundation(settings(data_dir))
    now = json.loads((data_dir / SECRETS_FILE).read_text())
    assert now.keys() == GENERATED.keys()
    assert (now["jwt_secret"], now["mcp_encryption_key"]) == (kept["jwt_secret"], kept["mcp_encryption_key"])


def test_what_the_environment_gives_wins_over_what_was_generated(data_dir: Path) -> None:
    given = Secret("a secret of the operator, long enough")
    foundation = lay_foundation(settings(data_dir, jwt_secret=given, mcp_encryption_key=KEY))
    assert foundation.jwt_secret == given
    assert foundation.ring.current_key_id == bootstrap.KeyRing.parse(KEY).current_key_id


@pytest.mark.parametrize("content", ["", "{", "[]", '{"jwt_secret": 1}'])
def test_damaged_secrets_are_said_to_be_and_never_made_anew(data_dir: Path, content: str) -> None:
    (data_dir / SECRETS_FILE).write_text(content)
    for use in (lay_foundation, embedded_jwt_secret):
        with pytest.raises(StartupError, match=r"secrets.json is damaged; restore it from a backup"):
            use(settings(data_dir))
    assert (data_dir / SECRETS_FILE).read_text() == content


def test_no_token_is_issued_where_there_is_no_embedded_mode(tmp_path: Path) -> None:
    for fields in ({}, {"database_url": Secret("postgresql://x/y")}, {"jwt_jwks_url": "https://keys.example/"}):
        with pytest.raises(StartupError, match="embedded mode only, after its first start"):
            embedded_jwt_secret(settings(tmp_path, **fields))


@pytest.mark.promise("P-NODEFAULT")
def test_with_a_database_of_ones_own_every_secret_must_be_given(tmp_path: Path, test_database: TestDatabase) -> None:
    url = test_database.service
    with pytest.raises(StartupError, match=r"set JWT_SECRET .*or JWT_JWKS_URL"):
        lay_foundation(settings(tmp_path, database_url=url, mcp_encryption_key=KEY))
    with pytest.raises(StartupError, match="MCP_ENCRYPTION_KEY is not set"):
        lay_foundation(settings(tmp_path, database_url=url, jwt_secret=Secret("long enough to be a secret of HS256")))
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_ones_own_is_migrated_only_with_its_owner(tmp_path: Path, test_database: TestDatabase) -> None:
    given = {"mcp_encryption_key": KEY, "jwt_secret": Secret("long enough to be a secret of HS256")}
    said: list[str] = []
    foundation = lay_foundation(settings(tmp_path, database_url=test_database.service, **given), said.append)
    assert (foundation.dsn, said) == (test_database.service, [])
    both = {"database_url": test_database.service, "database_owner_url": test_database.owner, **given}
    assert lay_foundation(settings(tmp_path, **both)).dsn == test_database.service


def test_a_data_directory_may_begin_with_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bootstrap.data_dir_of(settings(Path("~/data"))) == tmp_path / "data"
