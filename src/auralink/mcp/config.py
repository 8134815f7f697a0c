"""Which MCP servers the installation offers: the sections of `config/mcp-config.yaml` that say so (core/config_file.py reads it)."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from auralink.core.config_file import Section, config_path, load_sections
from auralink.core.secret import Secret

Transport = Literal["in_process", "http", "sse", "stdio"]
ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
AuthType = Literal["none", "bearer", "api_key", "oauth"]
OptionalSecret = Annotated[
    Secret | None, BeforeValidator(lambda value: Secret(value) if isinstance(value, str) and value else None)
]


class ServerConfig(Section):
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


class GlobalConfig(Section):
    """`mcp_global`."""

    max_connections: int = Field(default=50, ge=1)
    connection_timeout: float = Field(default=10.0, gt=0)
    rate_limit: int | None = Field(default=None, ge=1, description="calls per user and minute; unset: DEFAULT_RATE_LIMIT")
    cache_ttl: float = Field(default=60.0, ge=0)


class BreakerConfig(Section):
    """`circuit_breaker`."""

    failure_threshold: int = Field(default=5, ge=1)
    success_threshold: int = Field(default=2, ge=1)
    timeout: float = Field(default=30.0, gt=0)


class EnvironmentConfig(Section):
    """`environment`."""

    mode: Literal["development", "production"] = "development"


class MCPConfig(Section):
    """The sections of the file that are about MCP servers."""

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
    """Reads and validates the MCP sections of a configuration file.

    Raises:
        StartupError: the file is missing, is no YAML, names an unset variable, or has an unknown key or a wrong type.
    """
    return load_sections(path, MCPConfig, environ)


@lru_cache(maxsize=1)
def get_mcp_config() -> MCPConfig:
    """The installation's configuration, read once (`AURALINK_CONFIG`, else `config/mcp-config.yaml`)."""
    return load_mcp_config(config_path())
