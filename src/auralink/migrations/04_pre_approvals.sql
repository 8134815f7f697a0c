-- Approvals: what a person has to decide before it happens; and pins: the tool definitions that a user has seen.

CREATE TABLE auralink.approvals (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    connection_id uuid NOT NULL,
    server        text NOT NULL,
    tool          text NOT NULL,
    arguments     jsonb NOT NULL,
    call_hash     bytea NOT NULL,          -- SHA-256 of connection, tool, arguments and the tool's definition
    status        text NOT NULL CHECK (status IN ('pending', 'approved', 'denied', 'used')),
    note          text,
    answer        jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    decided_at    timestamptz,
    expires_at    timestamptz NOT NULL     -- a pending one cannot be decided and an approved one not be used after this
);
CREATE INDEX approvals_call ON auralink.approvals (user_id, call_hash) WHERE status IN ('pending', 'approved');
CREATE INDEX approvals_list ON auralink.approvals (user_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.approvals');
GRANT SELECT, INSERT, UPDATE ON auralink.approvals TO auralink_service;

CREATE TABLE auralink.tool_pins (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    connection_id   uuid NOT NULL,
    tool            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('approved', 'quarantined')),
    definition      jsonb NOT NULL,        -- what was approved; of a tool that never was, what it is
    definition_hash bytea NOT NULL,
    seen            jsonb,                 -- what the server says now, if that differs
    seen_hash       bytea,
    flags           jsonb NOT NULL DEFAULT '[]',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (connection_id, tool),
    FOREIGN KEY (user_id, connection_id) REFERENCES auralink.user_mcp_connections (user_id, id) ON DELETE CASCADE
);
CREATE INDEX tool_pins_quarantined ON auralink.tool_pins (user_id, updated_at) WHERE status = 'quarantined';
CALL auralink.protect_tenant_table('auralink.tool_pins');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.tool_pins TO auralink_service;
CREATE TRIGGER announce_change AFTER UPDATE ON auralink.tool_pins
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();
