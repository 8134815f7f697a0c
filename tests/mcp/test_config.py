"""`mcp-config.yaml`: read with the environment in it, and every mistake with file, line, key and what was expected."""

import os
import re
from pathlib import Path

import pytest

from auralink.core.errors import StartupError
from auralink.core.settings import PROJECT_ROOT
from auralink.mcp.config import MCPConfig, get_mcp_config, load_mcp_config

SERVER = "mcp_servers:\n  one:\n    transport: http\n    endpoint: https://mcp.example/\n"


def load(tmp_path: Path, text: str | bytes, **environ: str) -> MCPConfig:
    path = tmp_path / "mcp.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_mcp_config(path, environ)


def refused(tmp_path: Path, text: str | bytes, **environ: str) -> str:
    """The one line that says why, without the directory of the file."""
    with pytest.raises(StartupError) as caught:
        load(tmp_path, text, **environ)
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is None
    return caught.value.message.replace(f"{tmp_path}/", "")


def test_the_file_of_the_installation_is_valid() -> None:
    config = load_mcp_config(PROJECT_ROOT / "config" / "mcp-config.yaml", {})
    assert config.is_server_enabled("deepwiki")
    assert config.environment.mode == "development"


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_offers_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == MCPConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVER + "    timout: 3\n", "mcp.yaml:5: unknown key 'mcp_servers.one.timout'"),
        ("mcp_server: {}\n", "mcp.yaml:1: unknown key 'mcp_server'"),
        ("mcp_global:\n  max_connections: 5\n  maximum: 1\n", "mcp.yaml:3: unknown key 'mcp_global.maximum'"),
        (SERVER + "    timeout: soon\n", "mcp.yaml:5: mcp_servers.one.timeout: Input should be a valid number"),
        (SERVER + "    timeout: 0\n", "mcp.yaml:5: mcp_servers.one.timeout: Input should be greater than 0"),
        (SERVER + "    enabled: perhaps\n", "mcp.yaml:5: mcp_servers.one.enabled: Input should be a valid boolean"),
        (SERVER + "    auth_type: basic\n", "mcp.yaml:5: mcp_servers.one.auth_type: Input should be 'none'"),
        (SERVER + "    tools: ask\n", "mcp.yaml:5: mcp_servers.one.tools: "),
        (SERVER + "    tools: [a, 1]\n", "mcp.yaml:5: mcp_servers.one.tools.1: Input should be a valid string"),
        ("mcp_servers:\n  one:\n    endpoint: x\n", "mcp.yaml:2: mcp_servers.one.transport: Field required"),
        ("mcp_servers:\n  one: {transport: http}\n", "mcp.yaml:2: mcp_servers.one: Value error, transport 'http' needs endpoint"),
        ("mcp_servers:\n  one: {transport: stdio}\n", "transport 'stdio' needs a command"),
        ("mcp_servers:\n  one: {transport: in_process, endpoint: x}\n", "transport 'in_process' has no endpoint"),
        (SERVER + "    command: x\n", "transport 'http' has no command"),
        ("mcp_servers:\n  My Server: {transport: in_process}\n", "mcp.yaml:2: mcp_servers.My Server"),
        ("mcp_servers: []\n", "mcp.yaml:1: mcp_servers: "),
        ("- a\n", "mcp.yaml:1: file: "),
        ("text\n", "mcp.yaml:1: file: "),
        (SERVER + SERVER, "mcp.yaml:5: the key 'mcp_servers' stands here twice"),
        (
            "mcp_servers:\n  a: {transport: in_process}\n  a: {transport: in_process}\n",
            "mcp.yaml:3: the key 'a' stands here twice",
        ),
        ("? [a, b]\n: c\n", "mcp.yaml:1: a key must be a plain word"),
        ("mcp_servers: [\n", "mcp.yaml: not valid YAML: "),
        ("a: b: c\n", "mcp.yaml: not valid YAML: "),
        ("a: !!python/name:os.system x\n", "mcp.yaml: not valid YAML: "),
        ("a: &a [*a]\n", "mcp.yaml: not valid YAML: it contains itself"),
        ("a: *nothing\n", "mcp.yaml: not valid YAML: "),
        (b"a: \xff\xfe\n", "mcp.yaml: not valid YAML: "),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_what(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    line = refused(tmp_path, SERVER + "    timeout: x\n    retry_attempts: 99\n")
    assert "mcp.yaml:5: " in line
    assert "; " in line
    assert "mcp.yaml:6: " in line


@pytest.mark.parametrize("name", ["nowhere.yaml", ""])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartupError, match=r"cannot read .*; set AURALINK_CONFIG"):
        load_mcp_config(tmp_path / name)


def test_variables_are_put_in_and_their_defaults_taken(tmp_path: Path) -> None:
    text = """
environment: {mode: "${MODE:-development}"}
mcp_servers:
  one:
    transport: http
    endpoint: https://${HOST}:${PORT:-443}/${EMPTY:-}
    timeout: ${TIMEOUT:-30}
    enabled: ${ENABLED:-true}
    rate_limit: ${RATE:-}
"""
    config = load(tmp_path, text, HOST="mcp.example", TIMEOUT="2.5", ENABLED="false", MODE="production", PORT="")
    server = config.server("one")
    assert server.endpoint == "https://mcp.example:443/"
    assert (server.timeout, server.enabled, server.rate_limit) == (2.5, False, None)
    assert config.environment.mode == "production"


def test_an_unset_variable_is_named_with_its_line(tmp_path: Path) -> None:
    for environ in ({}, {"KEY": ""}):
        line = refused(tmp_path, SERVER + "    api_key: ${KEY}\n", **environ)
        assert line == "mcp.yaml:5: the environment variable KEY is not set and has no default here"


def test_what_only_looks_like_a_variable_stays(tmp_path: Path) -> None:
    config = load(
        tmp_path, "mcp_servers: {one: {transport: stdio, command: x, args: [$HOME, '${', '${1}', '$${'], env: {A: '${}'}}}"
    )
    assert config.server("one").args == ("$HOME", "${", "${1}", "$${")


@pytest.mark.promise("P-SECRET")
@pytest.mark.parametrize("key", ["123456", "0123", "true", "null", "[x", "a: b", "'", "&a", "!x", "- a", "{", "#x", "%y", "*z"])
def test_a_key_is_taken_as_it_is_whatever_yaml_would_make_of_it(tmp_path: Path, key: str) -> None:
    secret = load(tmp_path, SERVER + "    api_key: ${KEY}\n", KEY=key).get_api_key("one")
    assert secret is not None
    assert secret.reveal() == key


@pytest.mark.promise("P-SECRET")
def test_a_mistake_beside_a_key_does_not_show_the_key(tmp_path: Path) -> None:
    text = SERVER + "    timeout: ${KEY}\n    api_key: ${KEY}\n    unknown: ${KEY}\n"
    assert "hidden-word" not in refused(tmp_path, text, KEY="hidden-word")
    config = load(tmp_path, SERVER + "    api_key: ${KEY}\n", KEY="hidden-word")
    assert "hidden-word" not in repr(config)
    assert "hidden-word" not in str(config.model_dump())


def test_a_value_of_a_variable_is_not_looked_through_for_variables(tmp_path: Path) -> None:
    config = load(tmp_path, SERVER.replace("https://mcp.example/", "${URL}"), URL="${HOME}")
    assert config.get_server_endpoint("one") == "${HOME}"


def test_the_python_interface_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SERVER + "    enabled: false\n  two-b: {transport: in_process}\n"
    config = load(tmp_path, text)
    assert config.get_server_endpoint("one") == "https://mcp.example/"
    assert config.get_server_endpoint("two-b") is None
    assert (config.is_server_enabled("one"), config.is_server_enabled("two-b"), config.is_server_enabled("x")) == (
        False,
        True,
        False,
    )
    monkeypatch.setenv("TWO_B_MCP_API_KEY", "from the environment")
    key = config.get_api_key("two-b")
    assert key is not None
    assert key.reveal() == "from the environment"
    assert config.get_api_key("one") is None
    with pytest.raises(KeyError):
        config.get_server_endpoint("x")


def test_the_installations_configuration_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SERVER)
    monkeypatch.setitem(os.environ, "AURALINK_CONFIG", str(path))
    get_mcp_config.cache_clear()
    try:
        assert list(get_mcp_config().mcp_servers) == ["one"]
        path.write_text("")
        assert get_mcp_config() is get_mcp_config()
        assert re.fullmatch("one", *get_mcp_config().mcp_servers)
    finally:
        get_mcp_config.cache_clear()
