"""The environment, typed: what is wrong in it is one line that names the variable, never its value."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from auralink.core.errors import StartupError
from auralink.core.settings import PROJECT_ROOT, Settings, load_settings

SECRETS = ("AURALINK_TOKEN", "DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "JWT_SECRET", "MCP_ENCRYPTION_KEY")
EXAMPLE = PROJECT_ROOT / ".env.example"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable of ours is set, and no `.env` lies in the working directory."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_has_to_be_set() -> None:
    settings = load_settings()
    assert settings.embedded
    assert (settings.auralink_host, settings.auralink_port) == ("127.0.0.1", 8001)


@pytest.mark.promise("P-NODEFAULT")
def test_no_secret_has_a_default() -> None:
    settings = load_settings()
    assert [name for name in SECRETS if getattr(settings, name.lower()) is not None] == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AURALINK_PORT", "http", "integer"),
        ("AURALINK_PORT", "0", "greater than or equal to 1"),
        ("AURALINK_PORT", "65536", "less than or equal to 65535"),
        ("AURALINK_MODE", "staging", "'development' or 'production'"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO'"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("MAX_BODY_BYTES", "1 MB", "integer"),
        ("MAX_BODY_BYTES", "0", "greater than or equal to 1024"),
        ("DEFAULT_RATE_LIMIT", "0", "greater than or equal to 1"),
        ("ALLOWED_NETWORKS", "10.0.0.0/8,everywhere", "everywhere"),
        ("ALLOWED_NETWORKS", "10.0.0.1/8", "host bits"),
        ("WIKI_REPO_ROOTS", "~no-such-user/x", "home"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=f"environment: {name}: .*{re.escape(said)}") as caught:
        load_settings()
    assert "\n" not in caught.value.message


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURALINK_PORT", "x")
    monkeypatch.setenv("LOG_LEVEL", "x")
    with pytest.raises(StartupError, match=r"AURALINK_PORT: .*; LOG_LEVEL: "):
        load_settings()


@pytest.mark.promise("P-SECRET")
def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hidden-word")
    settings = load_settings()
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.reveal() == "hidden-word"
    for shown in (repr(settings), str(settings), repr(settings.model_dump()), f"{settings.database_url}"):
        assert "hidden-word" not in shown


@pytest.mark.promise("P-SECRET")
def test_a_wrong_variable_beside_a_secret_does_not_show_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "hidden-word")
    monkeypatch.setenv("AURALINK_PORT", "x")
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert "hidden-word" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_lists_are_separated_as_their_kind_is() -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        allowed_networks="10.0.0.0/8, fd00::/8",  # type: ignore[arg-type]
        wiki_repo_roots="/a:/b c",  # type: ignore[arg-type]
    )
    assert settings.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.wiki_repo_roots == (Path("/a"), Path("/b c"))


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings() == Settings(_env_file=None)  # type: ignore[call-arg]


def test_the_file_beside_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    (clean / ".env").write_text("AURALINK_PORT=9001\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    settings = load_settings()
    assert (settings.auralink_port, settings.log_level) == (9001, "ERROR")


def test_the_example_lists_every_variable_with_a_reason_and_changes_nothing(clean: Path) -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if re.match(r"[A-Z_]+=", line)]
    names = {line.partition("=")[0] for line in lines}
    assert {name.upper() for name in Settings.model_fields} <= names
    assert len(names) < 40
    (clean / ".env").write_text(EXAMPLE.read_text())
    assert load_settings() == Settings(_env_file=None)  # type: ignore[call-arg]
