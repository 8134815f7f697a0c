"""Wire shapes of the OAuth routes, and what is kept of an authorization."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Registration = Literal["given", "document", "dynamic"]
"""How the client came to its id: the user gave it, it is the address of our metadata document, or the server assigned it."""
AuthMethod = Literal["none", "client_secret_basic", "client_secret_post"]


class StartBody(BaseModel):
    """POST /mcp/connections/{id}/oauth/start. The client is needed only where the server registers none by itself."""

    model_config = ConfigDict(extra="forbid")

    scope: str | None = Field(
        default=None, min_length=1, max_length=2000, description="asked for instead of what the server names"
    )
    client_id: str | None = Field(default=None, min_length=1, max_length=2000)
    client_secret: SecretStr | None = Field(default=None, min_length=1, max_length=2000)

    @model_validator(mode="after")
    def _secret_of_somebody(self) -> "StartBody":
        if self.client_secret is not None and self.client_id is None:
            raise ValueError("client_secret needs a client_id")
        return self


class Started(BaseModel):
    """Where the user goes next, and until when."""

    connection_id: UUID
    authorization_url: str
    expires_at: datetime


class Terms(BaseModel):
    """What a code or a refresh token is exchanged with, and at whom. No secret is in it."""

    issuer: str
    iss_expected: bool
    token_endpoint: str
    client_id: str
    registration: Registration
    auth_method: AuthMethod
    redirect_uri: str
    resource: str
    scope: str | None
    local: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose connection it is, where no token says so: behind a signed state, or in a refresh."""

    user_id: UUID


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters with which an authorization server sends a user back (RFC 6749 §4.1.2, RFC 9207)."""

    state: str
    code: str | None
    iss: str | None
    error: str | None
    error_description: str | None


@dataclass(frozen=True, slots=True)
class Site:
    """The addresses under which this installation is an OAuth client; `base` is its own, without a slash at the end."""

    base: str

    @property
    def redirect_uri(self) -> str:
        """Where users come back to."""
        return f"{self.base}/oauth/callback"

    @property
    def document_url(self) -> str | None:
        """The client id of the metadata document; None where authorization servers could not fetch it."""
        return f"{self.base}/oauth/client.json" if self.base.startswith("https://") else None
