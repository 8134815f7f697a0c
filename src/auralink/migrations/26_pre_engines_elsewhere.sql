-- Attempts that work elsewhere: on a machine to which our engine has given them, for example a worker of a Prefect server. Such a place
-- gets a one-time code, exchanges it for the attempt's job, says what happens, and leaves the outcome, which our engine takes from here.
-- Everything is fenced by the attempt: of one that is over nothing is taken.

CREATE TABLE auralink.runs_elsewhere (
    run_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    user_id    uuid NOT NULL,
    code       bytea UNIQUE,                 -- SHA-256 of the one-time code; NULL once it has been exchanged
    code_until timestamptz NOT NULL,
    deadline   double precision NOT NULL,    -- seconds since the epoch
    taken_at   timestamptz,
    seen_at    timestamptz,
    outcome    json,                         -- {"output": …} or {"error": {"type", "message", "traceback", "lost"}}
    PRIMARY KEY (run_id, attempt),
    FOREIGN KEY (user_id, run_id) REFERENCES auralink.runs (user_id, id) ON DELETE CASCADE
);
CALL auralink.protect_tenant_table('auralink.runs_elsewhere');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.runs_elsewhere TO auralink_service;
GRANT SELECT, UPDATE ON auralink.runs_elsewhere TO auralink_system;

-- Exchanges a one-time code: at most one caller ever gets a row, and none when the attempt is over. Who asks has nothing but the code,
-- so this crosses tenants.
CREATE FUNCTION auralink.exchange_engine_code(hash bytea)
    RETURNS TABLE (run_id uuid, attempt integer, user_id uuid, definition json, input json, clock timestamptz, origin_id uuid,
                   deadline double precision, memory_mb integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH taken AS (
        UPDATE auralink.runs_elsewhere e SET code = NULL, taken_at = clock_timestamp(), seen_at = clock_timestamp()
        WHERE e.code = hash AND e.code_until > clock_timestamp()
        RETURNING e.run_id, e.attempt, e.deadline
    )
    SELECT r.id, r.attempt, r.user_id, r.definition, r.input, r.clock, r.origin_id, t.deadline, r.memory_mb
    FROM taken t JOIN auralink.runs r ON r.id = t.run_id AND r.attempt = t.attempt AND r.status = 'running';
END $$;
GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.exchange_engine_code(bytea) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON FUNCTION auralink.exchange_engine_code(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.exchange_engine_code(bytea) TO auralink_service;
