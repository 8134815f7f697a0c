-- OAuth towards MCP servers: authorizations that a user has begun, and the grants that came of them.
--
-- Tokens, PKCE verifiers and client secrets are sealed by the vault before they come here.

ALTER TABLE auralink.user_mcp_connections DROP CONSTRAINT user_mcp_connections_status_check;
ALTER TABLE auralink.user_mcp_connections ADD CONSTRAINT user_mcp_connections_status_check
    CHECK (status IN ('active', 'error', 'authorization_required', 'disconnected'));

-- One row from the moment the user is sent to the authorization server until it sends the user back; taking it deletes it.
CREATE TABLE auralink.oauth_authorizations (
    id                   uuid PRIMARY KEY,          -- is in the state parameter, which is signed
    user_id              uuid NOT NULL,
    connection_id        uuid NOT NULL,
    terms                jsonb NOT NULL,            -- issuer, endpoint, client, resource, scope: what the code is exchanged with
    sealed_verifier      bytea NOT NULL,
    sealed_client_secret bytea,
    expires_at           timestamptz NOT NULL
);
CREATE INDEX oauth_authorizations_age ON auralink.oauth_authorizations (user_id, expires_at);
CALL auralink.protect_tenant_table('auralink.oauth_authorizations');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.oauth_authorizations TO auralink_service;

-- One row for each connection that was ever authorised. Without tokens it keeps the client's registration for the next time.
CREATE TABLE auralink.oauth_grants (
    user_id              uuid NOT NULL,
    connection_id        uuid NOT NULL,
    terms                jsonb NOT NULL,
    sealed_client_secret bytea,
    sealed_tokens        bytea,
    version              integer NOT NULL DEFAULT 1,   -- counts up with each set of tokens
    lease_until          timestamptz,                  -- a process is refreshing the tokens; over: it died
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, connection_id)
);
CALL auralink.protect_tenant_table('auralink.oauth_grants');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.oauth_grants TO auralink_service;
