"""What the operator sets: environment variables, read once at start-up and passed in. The MCP servers are in `mcp/config.py`.

An environment variable names what cannot be known in advance (addresses, secrets, sizes); everything else is a constant beside
the code it governs. A default that is unsafe in production does not exist: secrets have none.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from auralink.core.errors import StartupError
from auralink.core.secret import Secret

Network = IPv4Network | IPv6Network
OptionalSecret = Annotated[Secret | None, NoDecode]
PROJECT_ROOT = Path(__file__).resolve().parents[3]


class Settings(BaseSettings):
    """The environment, typed. `.env.example` says in one line each why a variable exists."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        arbitrary_types_allowed=True,
        frozen=True,
    )

    auralink_mode: Literal["development", "production"] = "development"
    auralink_host: str = "127.0.0.1"
    auralink_port: int = Field(default=8001, ge=1, le=65535)
    auralink_data_dir: Path | None = None
    auralink_config: Path = PROJECT_ROOT / "config" / "mcp-config.yaml"
    auralink_url: str | None = None
    auralink_scripted_model: Path | None = None
    auralink_token: OptionalSecret = None

    database_url: OptionalSecret = None
    database_owner_url: OptionalSecret = None
    redis_url: OptionalSecret = None

    jwt_secret: OptionalSecret = None
    jwt_jwks_url: str | None = None
    jwt_issuer: str = "auralink"
    jwt_audience: str = "auralink"
    mcp_encryption_key: OptionalSecret = None

    allowed_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    wiki_repo_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    default_rate_limit: int = Field(default=6000, ge=1, description="tool calls per user and minute")
    run_retention_days: int = Field(default=30, ge=1, description="how long finished runs and their journals are kept")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator(
        "auralink_token",
        "database_url",
        "database_owner_url",
        "redis_url",
        "jwt_secret",
        "mcp_encryption_key",
        mode="before",
    )
    @classmethod
    def _hide(cls, value: Any) -> Any:
        if isinstance(value, str):
            return Secret(value) if value else None
        return value

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("wiki_repo_roots", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return tuple(Path(part).expanduser() for part in value.split(":") if part)
            except RuntimeError as error:
                raise ValueError(f"{value}: {error}") from None
        return value

    @property
    def embedded(self) -> bool:
        """Whether the service runs its own Postgres (no `DATABASE_URL`)."""
        return self.database_url is None


def load_settings() -> Settings:
    """Reads the environment and `.env`.

    Raises:
        StartupError: a variable has a wrong type; the message names each variable, what was given's problem and the type.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
        raise StartupError(f"environment: {problems}") from None
