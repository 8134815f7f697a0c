-- What an agent says in a run that goes on where the turn's own run failed or was cancelled is the turn's answer too: the turn is that
-- run's from then on. A run that was given another input, model or definition (a fork), or is a replay, says nothing in the thread.
CREATE OR REPLACE FUNCTION auralink.keep_answer() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE auralink.agent_turns SET answer = NEW.output->>'answer', status = NEW.status WHERE run_id = NEW.id;
    IF FOUND OR NEW.source_id IS NULL OR NEW.mode <> 'live' OR NEW.status <> 'succeeded' THEN
        RETURN NULL;
    END IF;
    WITH RECURSIVE before(id, source_id) AS (
        SELECT NEW.id, NEW.source_id
        UNION
        SELECT r.id, r.source_id FROM before JOIN auralink.runs r ON r.id = before.source_id
        WHERE r.mode = 'live' AND r.input::jsonb = NEW.input::jsonb AND r.definition::jsonb = NEW.definition::jsonb
          AND r.overrides::jsonb = NEW.overrides::jsonb
    )
    UPDATE auralink.agent_turns t SET answer = NEW.output->>'answer', status = NEW.status, run_id = NEW.id
    FROM before WHERE t.run_id = before.id AND t.status IN ('failed', 'cancelled');
    RETURN NULL;
END $$;
