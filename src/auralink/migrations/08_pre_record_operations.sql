-- Writes a batch of the operation log, [{"user_id": …, "rows": [{…}, …]}, …]: the rows of many users in one statement, so in one
-- transaction and one round trip. It acts as its caller: each user's rows are inserted as that user, under row level security
-- like every other insert.
CREATE FUNCTION auralink.record_operations(entries json) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    entry json;
BEGIN
    FOR entry IN SELECT value FROM json_array_elements(entries) LOOP
        PERFORM set_config('app.current_user_id', entry->>'user_id', true);
        INSERT INTO auralink.mcp_operation_logs
            (id, user_id, at, connection_id, server, operation, tool, outcome, error, duration_ms, cached, served_by, source,
             trace_id, request_bytes, response_bytes)
        SELECT r.id, (entry->>'user_id')::uuid, r.at, r.connection_id, r.server, r.operation, r.tool, r.outcome, r.error,
               r.duration_ms, r.cached, r.served_by, r.source, r.trace_id, r.request_bytes, r.response_bytes
        FROM json_to_recordset(entry->'rows') AS r(
            id uuid, at timestamptz, connection_id uuid, server text, operation text, tool text, outcome text, error text,
            duration_ms double precision, cached boolean, served_by text, source text, trace_id text,
            request_bytes integer, response_bytes integer)
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION auralink.record_operations(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.record_operations(json) TO auralink_service;
