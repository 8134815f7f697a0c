"""SQL of authorizations that were begun and of the grants that came of them."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from auralink.core.db import Connection
from auralink.mcp.oauth.schemas import Terms

INSERT_AUTHORIZATION = """
WITH old AS (DELETE FROM auralink.oauth_authorizations WHERE user_id = %(user_id)s AND expires_at < now())
INSERT INTO auralink.oauth_authorizations (id, user_id, connection_id, terms, sealed_verifier, sealed_client_secret, expires_at)
VALUES (%(id)s, %(user_id)s, %(connection_id)s, %(terms)s, %(verifier)s, %(client_secret)s, %(expires_at)s)
"""

TAKE_AUTHORIZATION = """
DELETE FROM auralink.oauth_authorizations WHERE id = %s AND connection_id = %s
RETURNING terms, sealed_verifier, sealed_client_secret, expires_at > now() AS in_time
"""

AUTHORISE_CONNECTION = """
UPDATE auralink.user_mcp_connections
SET status = 'active', last_error = NULL, encrypted_credentials = NULL, credential_version = credential_version + 1, updated_at = now()
WHERE id = %s AND status <> 'disconnected' RETURNING id
"""

PUT_GRANT = """
INSERT INTO auralink.oauth_grants (user_id, connection_id, terms, sealed_client_secret, sealed_tokens)
VALUES (%(user_id)s, %(connection_id)s, %(terms)s, %(client_secret)s, %(tokens)s)
ON CONFLICT (user_id, connection_id) DO UPDATE
    SET terms = EXCLUDED.terms, sealed_client_secret = EXCLUDED.sealed_client_secret, sealed_tokens = EXCLUDED.sealed_tokens,
        version = oauth_grants.version + 1, lease_until = NULL, updated_at = now()
"""

FIND_GRANT = """
SELECT terms, sealed_client_secret, sealed_tokens, version FROM auralink.oauth_grants WHERE connection_id = %s
"""

LEASE = """
UPDATE auralink.oauth_grants SET lease_until = now() + make_interval(secs => %(seconds)s)
WHERE connection_id = %(id)s AND version = %(version)s AND (lease_until IS NULL OR lease_until < now()) RETURNING version
"""

END_LEASE = "UPDATE auralink.oauth_grants SET lease_until = NULL WHERE connection_id = %s AND version = %s"

RENEW = """
UPDATE auralink.oauth_grants SET sealed_tokens = %(tokens)s, version = version + 1, lease_until = NULL, updated_at = now()
WHERE connection_id = %(id)s AND version = %(version)s RETURNING version
"""

WITHDRAW = """
WITH lost AS (
    UPDATE auralink.oauth_grants SET sealed_tokens = NULL, version = version + 1, lease_until = NULL, updated_at = now()
    WHERE connection_id = %(id)s AND version = %(version)s RETURNING connection_id)
UPDATE auralink.user_mcp_connections c SET status = 'authorization_required', last_error = %(error)s, updated_at = now()
FROM lost WHERE c.id = lost.connection_id AND c.status <> 'disconnected' RETURNING c.id
"""


async def insert_authorization(
    connection: Connection,
    *,
    authorization_id: UUID,
    user_id: UUID,
    connection_id: UUID,
    terms: Terms,
    verifier: bytes,
    client_secret: bytes | None,
    expires_at: datetime,
) -> None:
    """Keeps an authorization that was begun, and removes those of the tenant that nobody came back from."""
    values = {"id": authorization_id, "user_id": user_id, "connection_id": connection_id, "terms": Jsonb(terms.model_dump())}
    values |= {"verifier": verifier, "client_secret": client_secret, "expires_at": expires_at}
    await connection.execute(INSERT_AUTHORIZATION, values)


async def take_authorization(connection: Connection, authorization_id: UUID, connection_id: UUID) -> DictRow | None:
    """An authorization that was begun and not yet taken; it is then gone."""
    return await (await connection.execute(TAKE_AUTHORIZATION, [authorization_id, connection_id])).fetchone()


async def put_grant(
    connection: Connection, user_id: UUID, connection_id: UUID, *, terms: Terms, client_secret: bytes | None, tokens: bytes
) -> bool:
    """Makes the grant the connection's credential, in place of any other; False if the tenant has no such open connection."""
    if await (await connection.execute(AUTHORISE_CONNECTION, [connection_id])).fetchone() is None:
        return False
    values = {"user_id": user_id, "connection_id": connection_id, "terms": Jsonb(terms.model_dump())}
    await connection.execute(PUT_GRANT, {**values, "client_secret": client_secret, "tokens": tokens})
    return True


async def find_grant(connection: Connection, connection_id: UUID) -> DictRow | None:
    """The grant of a connection."""
    return await (await connection.execute(FIND_GRANT, [connection_id])).fetchone()


async def delete_grant(connection: Connection, connection_id: UUID) -> None:
    """Removes what OAuth has given a connection, and what of it is under way."""
    await connection.execute("DELETE FROM auralink.oauth_grants WHERE connection_id = %s", [connection_id])
    await connection.execute("DELETE FROM auralink.oauth_authorizations WHERE connection_id = %s", [connection_id])


async def lease(connection: Connection, connection_id: UUID, version: int, seconds: float) -> bool:
    """Takes the right to refresh these tokens; False while another process has it, or when the tokens are others by now."""
    values = {"id": connection_id, "version": version, "seconds": seconds}
    return await (await connection.execute(LEASE, values)).fetchone() is not None


async def end_lease(connection: Connection, connection_id: UUID, version: int) -> None:
    """Gives the right back."""
    await connection.execute(END_LEASE, [connection_id, version])


async def renew(connection: Connection, connection_id: UUID, version: int, tokens: bytes) -> bool:
    """Puts the next tokens in place of those of `version`."""
    values = {"id": connection_id, "version": version, "tokens": tokens}
    return await (await connection.execute(RENEW, values)).fetchone() is not None


async def withdraw(connection: Connection, connection_id: UUID, version: int, error: str) -> bool:
    """Drops tokens that the server no longer takes, unless others have come: the user has to authorise again."""
    values = {"id": connection_id, "version": version, "error": error}
    return await (await connection.execute(WITHDRAW, values)).fetchone() is not None
