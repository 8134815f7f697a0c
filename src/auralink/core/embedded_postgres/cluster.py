"""What a client needs to know of a running server: where it listens and how to log in."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from auralink.core.embedded_postgres.directory import write_atomically
from auralink.core.errors import StartupError
from auralink.core.secret import Secret

DATABASE = "auralink"
PASSWORD_BYTES = 24

Login = Literal["service", "owner", "superuser"]
ROLE_NAMES: dict[Login, str] = {"service": "auralink_app", "owner": "auralink_owner", "superuser": "postgres"}


@dataclass(frozen=True)
class Passwords:
    """One password per login role."""

    service: Secret
    owner: Secret
    superuser: Secret

    @classmethod
    def generate(cls) -> Self:
        """Three new random passwords."""
        return cls(*(Secret(secrets.token_urlsafe(PASSWORD_BYTES)) for _ in range(3)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The passwords that `write` kept.

        Raises:
            FileNotFoundError: there is no such file.
            StartupError: the file is not one of ours.
        """
        try:
            kept = json.loads(path.read_text("utf-8"))
            return cls(*(Secret(kept[login]) for login in ("service", "owner", "superuser")))
        except (ValueError, KeyError, TypeError) as error:
            raise StartupError(
                f"{path} is damaged; restore it from a backup, the database cannot be opened without it"
            ) from error

    def write(self, path: Path) -> None:
        """Keeps the passwords in `path`, mode 0600; a kill leaves all of the file or none."""
        kept = {"service": self.service.reveal(), "owner": self.owner.reveal(), "superuser": self.superuser.reveal()}
        write_atomically(path, json.dumps(kept) + "\n")

    def of(self, login: Login) -> Secret:
        """The password of one login role."""
        return {"service": self.service, "owner": self.owner, "superuser": self.superuser}[login]


@dataclass(frozen=True)
class Cluster:
    """A running embedded server. `tcp` tells whether it listens on 127.0.0.1:`port` beside its socket."""

    data_dir: Path
    socket_dir: Path
    port: int
    tcp: bool
    passwords: Passwords

    def dsn(self, login: Login, *, database: str = DATABASE, tcp: bool = False) -> Secret:
        """A URL for libpq (psycopg, psql, pg_dump): the service's login role, the owner that migrates, or the superuser.

        Raises:
            StartupError: `tcp` is asked of a server that has only its socket.
        """
        if tcp and not self.tcp:
            raise StartupError("the embedded Postgres listens on its socket only; stop it and start it with a TCP port")
        user, password = ROLE_NAMES[login], quote(self.passwords.of(login).reveal(), safe="")
        name = quote(database, safe="")
        if tcp:
            return Secret(f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{name}")
        host = quote(str(self.socket_dir), safe="")
        return Secret(f"postgresql://{user}:{password}@/{name}?host={host}&port={self.port}")
