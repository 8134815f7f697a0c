"""`config/mcp-config.yaml`: which MCP servers the installation offers, validated, with the environment substituted in.

Every mistake names the file, the line, the key and what was expected.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from auralink.core.settings import PROJECT_ROOT

VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

Transport = Literal["in_process", "http", "sse", "stdio"]
ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
AuthType = Literal["none", "bearer", "api_key", "oauth"]
OptionalSecret = Annotated[
    Secret | None, BeforeValidator(lambda value: Secret(value) if isinstance(value, str) and value else None)
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class ServerConfig(_Section):
    """One entry of `mcp_servers`."""

    enabled: bool = True
    server_type: str | None = None
    transport: Transport
    endpoint: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    auth_type: AuthType = "none"
    api_key: OptionalSecret = None
    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds for one call")
    retry_attempts: int = Field(default=2, ge=0, le=10)
    fallback: bool = True
    rate_limit: int | None = Field(default=None, ge=1, description="calls per user and minute")
    sign_requests: bool = False
    tools: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _address(self) -> "ServerConfig":
        is_remote, is_stdio = self.transport in ("http", "sse"), self.transport == "stdio"
        if is_remote != bool(self.endpoint):
            raise ValueError(f"transport {self.transport!r} {'needs' if is_remote else 'has no'} endpoint")
        if is_stdio != bool(self.command):
            raise ValueError(f"transport {self.transport!r} {'needs a' if is_stdio else 'has no'} command")
        return self


class GlobalConfig(_Section):
    """`mcp_global`."""

    max_connections: int = Field(default=50, ge=1)
    connection_timeout: float = Field(default=10.0, gt=0)
    rate_limit: int | None = Field(default=None, ge=1, description="calls per user and minute; unset: DEFAULT_RATE_LIMIT")
    cache_ttl: float = Field(default=60.0, ge=0)


class BreakerConfig(_Section):
    """`circuit_breaker`."""

    failure_threshold: int = Field(default=5, ge=1)
    success_threshold: int = Field(default=2, ge=1)
    timeout: float = Field(default=30.0, gt=0)


class EnvironmentConfig(_Section):
    """`environment`."""

    mode: Literal["development", "production"] = "development"


class MCPConfig(_Section):
    """The whole file."""

    environment: EnvironmentConfig = EnvironmentConfig()
    mcp_global: GlobalConfig = GlobalConfig()
    circuit_breaker: BreakerConfig = BreakerConfig()
    mcp_servers: Mapping[ServerName, ServerConfig] = Field(default_factory=dict)

    def server(self, name: str) -> ServerConfig:
        """The entry of a server. Raises KeyError for a name that the file does not have."""
        return self.mcp_servers[name]

    def get_server_endpoint(self, name: str) -> str | None:
        """Where a server is; None for one that has no address (stdio, in process)."""
        return self.server(name).endpoint

    def get_api_key(self, name: str) -> Secret | None:
        """The operator's key for a server: `api_key` of the file, else `<NAME>_MCP_API_KEY` of the environment."""
        if key := self.server(name).api_key:
            return key
        value = os.environ.get(f"{name.upper().replace('-', '_')}_MCP_API_KEY")
        return Secret(value) if value else None

    def is_server_enabled(self, name: str) -> bool:
        """Whether the file has the server and does not switch it off."""
        entry = self.mcp_servers.get(name)
        return entry is not None and entry.enabled


def load_mcp_config(path: Path, environ: Mapping[str, str] | None = None) -> MCPConfig:
    """Reads and validates a configuration file.

    Raises:
        StartupError: the file is missing, is no YAML, names an unset variable, or has an unknown key or a wrong type.
    """
    environ = os.environ if environ is None else environ
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        return MCPConfig() if root is None else MCPConfig.model_validate(_plain(root, path, environ))
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}; set AURALINK_CONFIG to the right file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise StartupError(f"{path}: not valid YAML: it contains itself, or is nested too deep") from None
    except ValidationError as error:
        assert root is not None
        problems = "; ".join(_explain(root, path, e) for e in error.errors(include_input=False))
        raise StartupError(problems) from None


@lru_cache(maxsize=1)
def get_mcp_config() -> MCPConfig:
    """The installation's configuration, read once (`AURALINK_CONFIG`, else `config/mcp-config.yaml`)."""
    return load_mcp_config(Path(os.environ.get("AURALINK_CONFIG") or PROJECT_ROOT / "config" / "mcp-config.yaml"))


def _plain(node: yaml.Node, path: Path, environ: Mapping[str, str]) -> Any:
    """A YAML node as plain data, with variables substituted in its scalars."""
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, path)
        return {key.value: _plain(value, path, environ) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path, environ) for item in node.value]
    text = VARIABLE.sub(lambda match: _variable(match, node, path, environ), node.value)
    if text == node.value:
        return yaml.SafeLoader("").construct_object(node)
    return text or None  # a variable's text is never read as YAML: a key may look like a number or a list


def _refuse_repeated_keys(node: yaml.MappingNode, path: Path) -> None:
    """YAML would silently take the last."""
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise StartupError(f"{path}:{line}: a key must be a plain word")
        if key.value in seen:
            raise StartupError(f"{path}:{line}: the key {key.value!r} stands here twice")
        seen.add(key.value)


def _variable(match: re.Match[str], node: yaml.Node, path: Path, environ: Mapping[str, str]) -> str:
    value = environ.get(match["name"])
    if value:
        return value
    if match["default"] is None:
        line = node.start_mark.line + 1
        raise StartupError(f"{path}:{line}: the environment variable {match['name']} is not set and has no default here")
    return match["default"]


def _explain(root: yaml.Node, path: Path, error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    line = _line_of(root, location)
    key = ".".join(location) or "file"
    if error["type"] == "extra_forbidden":
        return f"{path}:{line}: unknown key {key!r}"
    return f"{path}:{line}: {key}: {error['msg']}"


def _line_of(node: yaml.Node, location: list[str]) -> int:
    """The line of the deepest part of `location` that the file has."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
