"""The roles and the database, made by a superuser: in the embedded cluster at its first start, or in any Postgres ≥ 15.

    auralink_owner     logs in; owns the database and its objects; migrates; may create objects for auralink_system
    auralink_service   what everything at run time acts as; owns nothing, bypasses nothing
    auralink_system    owns the few functions and views that cross tenants
    auralink_app       logs in; a member of auralink_service and nothing else

Everything here may be repeated and, whatever was there, leaves the roles as described.
"""

from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from auralink.core.db import why_unreachable
from auralink.core.embedded_postgres.cluster import DATABASE, ROLE_NAMES, Login, Passwords
from auralink.core.errors import StartupError
from auralink.core.secret import Secret

LOCK_KEY = 0x41555242  # "AURB"
CONNECT_TIMEOUT = 10
GROUPS = ("auralink_service", "auralink_system")
UNPRIVILEGED = sql.SQL("INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
Session = psycopg.Connection[tuple[object, ...]]

MEMBERSHIPS = """
GRANT auralink_service TO auralink_app;
GRANT auralink_system TO auralink_owner;
"""

INSIDE_DATABASE = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
    END IF;
END $$;
"""


def bootstrap_roles(superuser_dsn: Secret, passwords: Passwords) -> None:
    """Makes the four roles, or corrects them, and sets the passwords of the two that log in (sent as SCRAM verifiers).

    Raises:
        psycopg.Error: the database cannot be reached, or the login is not a superuser.
    """
    with _connect(superuser_dsn) as session, session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        for name in GROUPS:
            _ensure_role(session, name, sql.SQL("NOLOGIN"))
        for login in ("service", "owner"):
            name = ROLE_NAMES[login]
            verifier = session.pgconn.encrypt_password(passwords.of(login).reveal().encode(), name.encode(), b"scram-sha-256")
            _ensure_role(session, name, sql.SQL("LOGIN PASSWORD {}").format(verifier.decode()))
        session.execute(MEMBERSHIPS)


def create_database(superuser_dsn: Secret, name: str = DATABASE, *, template: str = "template0") -> None:
    """Makes a database of `auralink_owner`, to which only the service may connect beside it, with pgvector where it is installed.

    Raises:
        psycopg.Error: the database cannot be reached, the roles are missing, or the login is not a superuser.
    """
    database, owner = sql.Identifier(name), sql.Identifier(ROLE_NAMES["owner"])
    with _connect(superuser_dsn) as session:
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            session.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING 'UTF8'").format(
                    database, owner, sql.Identifier(template)
                )
            )
        session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        session.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO auralink_service").format(database))
        with _connect(Secret(make_conninfo(superuser_dsn.reveal(), dbname=name))) as inside:
            inside.execute(INSIDE_DATABASE)


def bootstrap_external(superuser_dsn: Secret, name: str) -> tuple[Secret, Secret]:
    """Roles and database on somebody's own Postgres, with new passwords; the addresses for the service and for the owner.

    Raises:
        StartupError: the server cannot be reached, or the login is not a superuser.
    """
    passwords = Passwords.generate()
    try:
        bootstrap_roles(superuser_dsn, passwords)
        create_database(superuser_dsn, name)
    except psycopg.Error as error:
        raise StartupError(f"cannot make the roles and the database: {why_unreachable(error, superuser_dsn)}") from None
    server = conninfo_to_dict(superuser_dsn.reveal())
    return _url(server, name, "service", passwords), _url(server, name, "owner", passwords)


def _url(server: dict[str, Any], database: str, login: Login, passwords: Passwords) -> Secret:
    """The address of a database as a URL, which a `.env` file and a shell can hold without quotes."""
    user, password = ROLE_NAMES[login], quote(passwords.of(login).reveal(), safe="")
    rest = {key: value for key, value in server.items() if key not in ("user", "password", "dbname", "host", "port") and value}
    host, port = str(server.get("host") or ""), server.get("port")
    if host.startswith("/"):
        rest, host = {**rest, "host": host}, ""
    place = f"{host}:{port}" if port else host
    query = f"?{urlencode(rest)}" if rest else ""
    return Secret(f"postgresql://{user}:{password}@{place}/{quote(database)}{query}")


def close_other_databases(superuser_dsn: Secret) -> None:
    """Keeps everybody but superusers out of the databases that come with a cluster; for a cluster that is ours alone."""
    with _connect(superuser_dsn) as session:
        session.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")


def _connect(dsn: Secret) -> Session:
    return psycopg.connect(dsn.reveal(), autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="auralink bootstrap")


def _ensure_role(session: Session, name: str, options: sql.Composable) -> None:
    if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    session.execute(sql.SQL("ALTER ROLE {} {} {}").format(sql.Identifier(name), UNPRIVILEGED, options))
