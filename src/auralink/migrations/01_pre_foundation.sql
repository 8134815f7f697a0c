-- The foundation: who the tenant is, the roles, the registry, connections, keys, and the operation log.
--
-- Run by the owner. The roles auralink_service and auralink_system exist already (core/embedded_postgres.py makes them, or the
-- operator does, see docs/how-to/external-postgres.md). Only what Postgres 15 has is used, and no contrib extension.

CREATE SCHEMA IF NOT EXISTS auralink;
REVOKE ALL ON SCHEMA auralink FROM PUBLIC;
GRANT USAGE ON SCHEMA auralink TO auralink_service, auralink_system;

-- Who the current transaction acts for. NULL (nobody) unless the service has set it, and NULL equals nothing.
CREATE FUNCTION auralink.current_user_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_user_id', true), '')::uuid;

GRANT EXECUTE ON FUNCTION auralink.current_user_id() TO auralink_service, auralink_system;

-- Gives a table with tenant rows its row level security: enabled, forced, one policy for the tenant, one for what crosses tenants.
CREATE PROCEDURE auralink.protect_tenant_table(target regclass)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format($f$CREATE POLICY tenant ON %s TO auralink_service
        USING (user_id = (SELECT auralink.current_user_id()))
        WITH CHECK (user_id = (SELECT auralink.current_user_id()))$f$, target);
    EXECUTE format('CREATE POLICY across_tenants ON %s TO auralink_system USING (true) WITH CHECK (true)', target);
END $$;
REVOKE ALL ON PROCEDURE auralink.protect_tenant_table(regclass) FROM PUBLIC;


-- The registry: servers that the operator offers. Shared by all tenants, holds no secret.
CREATE TABLE auralink.mcp_servers (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    server_type    text NOT NULL,
    transport      text NOT NULL CHECK (transport IN ('in_process', 'http', 'sse', 'stdio')),
    endpoint       text,
    command        text,
    args           jsonb NOT NULL DEFAULT '[]',
    env            jsonb NOT NULL DEFAULT '{}',
    auth_type      text NOT NULL DEFAULT 'none' CHECK (auth_type IN ('none', 'bearer', 'api_key', 'oauth')),
    timeout        double precision NOT NULL DEFAULT 30 CHECK (timeout > 0),  -- seconds for one call
    retry_attempts integer NOT NULL DEFAULT 2 CHECK (retry_attempts BETWEEN 0 AND 10),
    rate_limit     integer CHECK (rate_limit > 0),                           -- calls per user and minute
    tools          jsonb,                                                    -- allow-list; NULL allows all
    enabled        boolean NOT NULL DEFAULT true,
    source         text NOT NULL CHECK (source IN ('config', 'admin')),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((transport = 'stdio') = (command IS NOT NULL)),
    CHECK ((transport IN ('http', 'sse')) = (endpoint IS NOT NULL))
);
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.mcp_servers TO auralink_service;


-- A user's connection to a server. The credential is sealed by the vault before it comes here.
CREATE TABLE auralink.user_mcp_connections (
    id                    uuid PRIMARY KEY,
    user_id               uuid NOT NULL,
    server_id             uuid REFERENCES auralink.mcp_servers (id),   -- NULL: a custom server of the user's own
    server_type           text NOT NULL,
    name                  text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,30}$'),
    endpoint              text,
    status                text NOT NULL CHECK (status IN ('active', 'error', 'disconnected')),
    policy                jsonb NOT NULL DEFAULT '{}',
    encrypted_credentials bytea,
    credential_version    integer NOT NULL DEFAULT 1,
    protocol_version      text,
    server_name           text,
    server_info           jsonb NOT NULL DEFAULT '{}',
    capabilities          jsonb NOT NULL DEFAULT '[]',
    last_error            text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, id),                                               -- for foreign keys, which see past row level security
    CHECK ((server_id IS NULL) = (endpoint IS NOT NULL))
);
CREATE UNIQUE INDEX user_mcp_connections_name ON auralink.user_mcp_connections (user_id, name) WHERE status <> 'disconnected';
CREATE INDEX user_mcp_connections_server ON auralink.user_mcp_connections (server_id);
CALL auralink.protect_tenant_table('auralink.user_mcp_connections');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.user_mcp_connections TO auralink_service;

-- Every API process keeps resolved connections in memory and forgets them when this says so.
CREATE FUNCTION auralink.announce_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('auralink_changed', concat_ws(':', TG_TABLE_NAME, coalesce(NEW.id, OLD.id),
                                                    coalesce(to_jsonb(NEW), to_jsonb(OLD)) ->> 'user_id'));
    RETURN NULL;
END $$;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.mcp_servers
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.user_mcp_connections
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();


-- A user's data keys, wrapped by the operator's MCP_ENCRYPTION_KEY (envelope encryption).
CREATE TABLE auralink.data_keys (
    user_id       uuid NOT NULL,
    version       integer NOT NULL CHECK (version > 0),
    wrapped       bytea NOT NULL,
    master_key_id text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, version)
);
CREATE INDEX data_keys_master ON auralink.data_keys (master_key_id);
CALL auralink.protect_tenant_table('auralink.data_keys');
GRANT SELECT, INSERT, UPDATE ON auralink.data_keys TO auralink_service;

-- Which users have data keys that another master key than the current one has wrapped: what `auralink keys rotate` walks through.
CREATE FUNCTION auralink.users_to_rewrap(current_master_key_id text, batch integer) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT DISTINCT user_id FROM auralink.data_keys WHERE master_key_id <> current_master_key_id LIMIT batch;
END;
GRANT SELECT ON auralink.data_keys TO auralink_system;


-- What was asked under an Idempotency-Key, and what was answered. Committed before the effect.
CREATE TABLE auralink.idempotency_keys (
    user_id      uuid NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,                  -- SHA-256 of method, path and body
    owner        uuid NOT NULL,                   -- the process that runs it
    lease_until  timestamptz NOT NULL,            -- renewed while it runs; over: the process died
    status       integer,                         -- HTTP status; NULL while it runs
    response     bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_age ON auralink.idempotency_keys (created_at);
CALL auralink.protect_tenant_table('auralink.idempotency_keys');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.idempotency_keys TO auralink_service;
GRANT SELECT, DELETE ON auralink.idempotency_keys TO auralink_system;

CREATE FUNCTION auralink.forget_idempotency_keys() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    WITH gone AS (DELETE FROM auralink.idempotency_keys WHERE created_at < now() - interval '24 hours' RETURNING 1)
    SELECT count(*) FROM gone;
END;


-- The operation log: one row a call, for every call. Partitioned by month; a partition is protected like its parent, since it
-- could be named directly.
CREATE TABLE auralink.mcp_operation_logs (
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    at            timestamptz NOT NULL,
    connection_id uuid,
    server        text,
    operation     text NOT NULL,          -- 'tools/call', 'connect', …
    tool          text,
    outcome       text NOT NULL,          -- 'ok', 'tool_error', or the stable error code
    error         text,
    duration_ms   double precision NOT NULL,
    cached        boolean NOT NULL DEFAULT false,
    served_by     text,
    source        text NOT NULL,          -- the door it came through: 'rest', 'mcp', …
    trace_id      text,
    request_bytes  integer,
    response_bytes integer,
    cost_usd      numeric(18, 9),
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX mcp_operation_logs_user ON auralink.mcp_operation_logs (user_id, at DESC, id DESC);
CALL auralink.protect_tenant_table('auralink.mcp_operation_logs');
GRANT SELECT, INSERT ON auralink.mcp_operation_logs TO auralink_service;
GRANT SELECT ON auralink.mcp_operation_logs TO auralink_system;

CREATE TABLE auralink.mcp_operation_logs_default PARTITION OF auralink.mcp_operation_logs DEFAULT;
CALL auralink.protect_tenant_table('auralink.mcp_operation_logs_default');

-- Makes the partitions of this month and the next `months`; owned by the owner, because only an owner can attach a partition.
CREATE FUNCTION auralink.ensure_log_partitions(months integer DEFAULT 2) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    month date := date_trunc('month', now() AT TIME ZONE 'UTC');
    made  integer := 0;
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('auralink.ensure_log_partitions'));
    FOR i IN 0..least(months, 24) LOOP
        part := 'mcp_operation_logs_' || to_char(month, 'YYYY_MM');
        IF to_regclass('auralink.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE auralink.%I PARTITION OF auralink.mcp_operation_logs FOR VALUES FROM (%L) TO (%L)',
                           part, month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
            EXECUTE format('CALL auralink.protect_tenant_table(%L)', 'auralink.' || part);
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END $$;
SELECT auralink.ensure_log_partitions();

-- An admin's view of the log. The service calls it only for a principal whose role is admin.
CREATE FUNCTION auralink.audit_of_all_users(
        of_server text, of_tool text, of_outcome text, since timestamptz, before_at timestamptz, before_id uuid, max_rows integer)
    RETURNS SETOF auralink.mcp_operation_logs
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT * FROM auralink.mcp_operation_logs
    WHERE (of_server IS NULL OR server = of_server) AND (of_tool IS NULL OR tool = of_tool)
      AND (of_outcome IS NULL OR outcome = of_outcome) AND (since IS NULL OR at >= since)
      AND (before_at IS NULL OR (at, id) < (before_at, before_id))
    ORDER BY at DESC, id DESC
    LIMIT max_rows;
END;


-- What crosses tenants belongs to auralink_system; only the service may call it.
GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.users_to_rewrap(text, integer) OWNER TO auralink_system;
ALTER FUNCTION auralink.forget_idempotency_keys() OWNER TO auralink_system;
ALTER FUNCTION auralink.audit_of_all_users(text, text, text, timestamptz, timestamptz, uuid, integer) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA auralink FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.current_user_id() TO auralink_service, auralink_system;
GRANT EXECUTE ON FUNCTION auralink.users_to_rewrap(text, integer) TO auralink_service;
GRANT EXECUTE ON FUNCTION auralink.forget_idempotency_keys() TO auralink_service;
GRANT EXECUTE ON FUNCTION auralink.audit_of_all_users(text, text, text, timestamptz, timestamptz, uuid, integer) TO auralink_service;
GRANT EXECUTE ON FUNCTION auralink.ensure_log_partitions(integer) TO auralink_service;
