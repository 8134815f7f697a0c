"""Wire shapes of the MCP routes, and what the gateway hands from one step to the next."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire

Decision = Literal["auto", "allow", "ask", "deny"]
Transport = Literal["in_process", "http", "sse", "stdio"]
AuthType = Literal["none", "bearer", "api_key", "oauth"]
Authorization = Literal["none", "required", "granted"]
"""What OAuth has to do with a connection: nothing, its user has to authorise it, or its user has."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConnectionPolicy(_Body):
    """What may be called on a connection: a decision for each named tool, and one for the rest.

    `auto` allows what does not declare itself destructive and asks about the rest. `rate_limits` are calls of a tool per minute;
    `read_only` is for databases: whether statements may write.
    """

    default: Decision = "auto"
    tools: dict[str, Decision] = Field(default_factory=dict, max_length=500)
    read_only: bool = True
    rate_limits: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict, max_length=500)

    def decide(self, tool: str) -> Decision:
        """The decision for a tool."""
        return self.tools.get(tool, self.default)


class Credentials(_Body):
    """What opens a server, exactly one of: an API key, a bearer token, a database address."""

    api_key: SecretStr | None = Field(default=None, max_length=8192)
    token: SecretStr | None = Field(default=None, max_length=8192)
    dsn: SecretStr | None = Field(default=None, max_length=2048)

    @model_validator(mode="after")
    def _exactly_one(self) -> "Credentials":
        if sum(value is not None for value in (self.api_key, self.token, self.dsn)) != 1:
            raise ValueError("give exactly one of api_key, token, dsn")
        if any(not value.isprintable() for value in self.plain().values()):
            raise ValueError("a credential has no line breaks and no control characters")
        return self

    def plain(self) -> dict[str, str]:
        """The one value under its name, for the vault."""
        values = {"api_key": self.api_key, "token": self.token, "dsn": self.dsn}
        return {name: value.get_secret_value() for name, value in values.items() if value is not None}


class ConnectRequest(_Body):
    """POST /mcp/connect."""

    server_type: Name
    credentials: Credentials | None = None
    name: Name | None = None
    endpoint: str | None = Field(default=None, max_length=2048)
    policy: ConnectionPolicy = Field(default_factory=ConnectionPolicy)


class ConnectResponse(BaseModel):
    """What a new connection leads to."""

    connection_id: UUID
    status: str
    server_type: str
    server_name: str
    name: str
    capabilities: list[str]
    protocol_version: str | None
    served_by: str
    authorization_url: str | None = Field(
        default=None, description="with status authorization_required: where the user goes next"
    )
    warnings: list[Warning] = []


class ConnectionView(BaseModel):
    """A connection without its credential."""

    connection_id: UUID
    name: str
    server_type: str
    server_name: str | None
    endpoint: str | None
    status: str
    policy: ConnectionPolicy
    has_credentials: bool
    protocol_version: str | None
    capabilities: list[str]
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Warning] = Field(default=[], description="in the answer to a change")


class ConnectionPage(BaseModel):
    """A page of connections, oldest first."""

    items: list[ConnectionView]
    next_cursor: str | None


class ConnectionPatch(_Body):
    """PATCH /mcp/connections/{id}."""

    name: Name | None = None
    policy: ConnectionPolicy | None = None


class ConnectionTest(BaseModel):
    """What contacting the upstream just now gave."""

    connection_id: UUID
    status: str
    latency_ms: float
    protocol_version: str
    server_name: str | None
    server_version: str | None
    tools: list[str]


class ServerBody(_Body):
    """POST /mcp/servers."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    server_type: Name | None = None
    transport: Literal["http", "sse", "stdio"]
    endpoint: str | None = Field(default=None, max_length=2048)
    command: str | None = Field(default=None, max_length=1024)
    args: list[str] = Field(default_factory=list, max_length=100)
    env: dict[str, str] = Field(default_factory=dict, max_length=100)
    auth_type: AuthType = "none"
    timeout: float = Field(default=30.0, gt=0, le=3600)
    retry_attempts: int = Field(default=2, ge=0, le=10)
    rate_limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _address(self) -> "ServerBody":
        if (self.transport == "stdio") != (self.command is not None):
            raise ValueError("command belongs to transport 'stdio' and to no other")
        if (self.transport != "stdio") != (self.endpoint is not None):
            raise ValueError("endpoint belongs to transports 'http' and 'sse' and to no other")
        return self


class ServerPatch(_Body):
    """PATCH /mcp/servers/{id}."""

    enabled: bool | None = None
    endpoint: str | None = Field(default=None, max_length=2048)
    timeout: float | None = Field(default=None, gt=0, le=3600)
    retry_attempts: int | None = Field(default=None, ge=0, le=10)
    rate_limit: int | None = Field(default=None, ge=1)


class ServerView(BaseModel):
    """A server of the registry. A stdio command and its environment are shown to admins only."""

    server_id: UUID
    name: str
    server_type: str
    transport: Transport
    endpoint: str | None
    command: str | None = None
    args: list[str] = Field(default_factory=list)
    auth_type: AuthType
    timeout: float
    retry_attempts: int
    rate_limit: int | None
    tools: list[str] | None
    enabled: bool
    source: str


class ServerPage(BaseModel):
    """The registry, by name."""

    items: list[ServerView]
    next_cursor: str | None = None


class ToolView(BaseModel):
    """A tool of one of the user's connections."""

    name: str
    tool: str
    connection_id: UUID
    connection: str
    title: str | None
    description: str | None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    annotations: dict[str, Any]
    policy: Decision
    pin: Literal["approved", "quarantined"] = "approved"


class Degraded(BaseModel):
    """A connection whose tools are missing from a list, and why."""

    connection_id: UUID
    connection: str
    code: str
    message: str


class ToolPage(BaseModel):
    """A page of tools in the order of their names, and what is missing."""

    items: list[ToolView]
    next_cursor: str | None
    degraded: list[Degraded]


class PinView(BaseModel):
    """A tool whose definition waits to be looked at: what was approved, what the server says now, and the difference."""

    pin_id: UUID
    connection_id: UUID
    tool: str
    status: Literal["approved", "quarantined"]
    flags: list[str]
    definition: dict[str, Any]
    seen: dict[str, Any] | None
    diff: str
    updated_at: datetime


class PinPage(BaseModel):
    """A page of quarantined tools, newest first."""

    items: list[PinView]
    next_cursor: str | None


class CallBody(_Body):
    """POST /mcp/tools/{name}/call."""

    arguments: dict[str, Any] = Field(default_factory=dict)


class ToolCallResponse(BaseModel):
    """What a tool call gave; `result` is the server's own, untouched."""

    result: dict[str, Any]
    served_by: str
    cached: bool
    latency_ms: float
    log_id: UUID


@dataclass(frozen=True, slots=True)
class Server:
    """A registry entry as the gateway uses it."""

    id: UUID | None
    name: str
    server_type: str
    transport: Transport
    endpoint: str | None
    command: str | None
    args: tuple[str, ...]
    env: Mapping[str, str]
    auth_type: AuthType
    timeout: float
    retry_attempts: int
    rate_limit: int | None
    tools: frozenset[str] | None
    trusted: bool
    twin_of: str | None = None

    @property
    def label(self) -> str:
        """The server's name in metrics: servers that users name are all `custom`."""
        return self.name if self.id is not None else "custom"

    @property
    def served_by(self) -> str:
        """Who answers for the server: `built-in:<name>` for one in this process, else its name."""
        if self.twin_of is not None:
            return f"built-in:{self.name} (fallback for {self.twin_of})"
        return f"built-in:{self.name}" if self.transport == "in_process" else self.name


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A user's connection as the gateway uses it; the credential stays sealed."""

    id: UUID
    user_id: UUID
    name: str
    server: Server
    policy: ConnectionPolicy
    sealed_credentials: bytes | None
    credential_version: int
    authorization: Authorization = "none"


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool call gave: the server's result as it is, and how it came about."""

    result: dict[str, Any]
    served_by: str
    cached: bool
    latency_ms: float
    log_id: UUID

    @property
    def facts(self) -> dict[str, Any]:
        """How the answer came about, as it stands beside a result in JSON."""
        latency = round(self.latency_ms, 3)
        return {"served_by": self.served_by, "cached": self.cached, "latency_ms": latency, "log_id": str(self.log_id)}
