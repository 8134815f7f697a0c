-- Toolsets: the tools that a client at /mcp?toolset=<name> sees, in place of all of them.

CREATE TABLE auralink.mcp_toolsets (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    name       text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    tools      text[] NOT NULL,            -- names as tools/list shows them
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name)
);
CALL auralink.protect_tenant_table('auralink.mcp_toolsets');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.mcp_toolsets TO auralink_service;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.mcp_toolsets
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();
