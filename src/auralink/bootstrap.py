"""What must exist before the service can be built: a database with its schema, and the two secrets.

In embedded mode all of it is made at the first start (P-NODEFAULT: nothing has a default value, everything is generated);
with `DATABASE_URL` it must be given.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from auralink.core import embedded_postgres as embedded
from auralink.core.embedded_postgres.directory import exclusive, in_one_line, write_atomically
from auralink.core.errors import StartupError
from auralink.core.migrate import migrate
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from auralink.servers.database.demo import create_demo
from auralink.vault.crypto import KeyRing, generate_master_key

SECRETS_FILE = "secrets.json"
GENERATED: dict[str, Callable[[], str]] = {
    "jwt_secret": lambda: token_hex(32),
    "mcp_encryption_key": lambda: generate_master_key().reveal(),
    "demo_password": lambda: token_hex(16),
}
"""What the embedded mode makes up at its first start."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Foundation:
    """Where the database is and what secrets the service works with."""

    data_dir: Path
    dsn: Secret
    jwt_secret: Secret | None
    ring: KeyRing
    demo_database: Secret | None = None


def data_dir_of(settings: Settings) -> Path:
    """`AURALINK_DATA_DIR`, else the default place."""
    return (settings.auralink_data_dir or embedded.default_data_dir()).expanduser().absolute()


def lay_foundation(settings: Settings, progress: Progress = lambda _: None, *, attach: bool = False) -> Foundation:
    """Starts or attaches to the database, migrates it where that is ours to do, and finds the secrets. `attach`: the database is
    another process's, which has started and migrated it; one that was stopped stays so.

    Raises:
        StartupError: one line that says what is missing or wrong, and what to do.
    """
    data_dir = data_dir_of(settings)
    if settings.database_url is None and attach:
        running = embedded.find_cluster(data_dir)
        if running is None:
            raise StartupError(f"the database in {data_dir} does not run")
        dsn, generated, demo = running.dsn("service"), _generated_secrets(data_dir), None
    elif settings.database_url is None:
        cluster = embedded.start(data_dir, progress=progress)
        migrate(cluster.dsn("owner"), progress=progress)
        dsn, generated = cluster.dsn("service"), _generated_secrets(data_dir)
        demo = create_demo(cluster.dsn("superuser"), password=Secret(generated["demo_password"]))
    else:
        if settings.database_owner_url is not None and not attach:
            migrate(settings.database_owner_url, progress=progress)
        dsn, generated, demo = settings.database_url, {}, None
    return Foundation(data_dir, dsn, jwt_secret_of(settings, generated), _ring(settings, generated), demo)


def jwt_secret_of(settings: Settings, generated: dict[str, str]) -> Secret | None:
    """The HS256 secret: of the environment, else generated; None where a JWKS is used instead.

    Raises:
        StartupError: there is none and none may be made up.
    """
    if settings.jwt_secret is not None or settings.jwt_jwks_url is not None:
        return settings.jwt_secret
    if "jwt_secret" in generated:
        return Secret(generated["jwt_secret"])
    raise StartupError("set JWT_SECRET (openssl rand -base64 48), or JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE")


def _ring(settings: Settings, generated: dict[str, str]) -> KeyRing:
    given = settings.mcp_encryption_key
    if given is None and "mcp_encryption_key" in generated:
        given = Secret(generated["mcp_encryption_key"])
    return KeyRing.parse(given)


def _generated_secrets(data_dir: Path) -> dict[str, str]:
    """The embedded mode's own secrets: what is missing is made, and all is kept in a file that only its owner reads."""
    path = data_dir / SECRETS_FILE
    with in_one_line(data_dir), exclusive(data_dir, lambda _: None):
        kept = _read_secrets(path) if path.exists() else {}
        if missing := {name: make() for name, make in GENERATED.items() if name not in kept}:
            kept |= missing
            write_atomically(path, json.dumps(kept))
    return kept


def _read_secrets(path: Path) -> dict[str, str]:
    try:
        secrets = json.loads(path.read_text())
    except ValueError:
        secrets = None
    if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
        raise StartupError(f"{path} is damaged; restore it from a backup, stored credentials cannot be opened without it")
    return secrets


def embedded_jwt_secret(settings: Settings) -> Secret:
    """The secret that signs tokens in embedded mode, without starting anything.

    Raises:
        StartupError: this is not the embedded mode, or it was never started.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret
    path = data_dir_of(settings) / SECRETS_FILE
    with in_one_line(path):
        if settings.embedded and settings.jwt_jwks_url is None and path.exists():
            return Secret(_read_secrets(path)["jwt_secret"])
    raise StartupError(
        f"tokens are issued in embedded mode only, after its first start (`make run` or `auralink serve`), and {path.parent} holds "
        "no secrets of one; set AURALINK_DATA_DIR if it was started on another directory"
    )
