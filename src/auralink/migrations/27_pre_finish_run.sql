-- Ends an attempt for good. False if it is over already: what an earlier attempt says counts for nothing. A run that has succeeded has no
-- error, even if an earlier attempt had one; its events tell of that.
CREATE OR REPLACE FUNCTION auralink.finish_run(run uuid, of_attempt integer, as_status text, its_output json, its_error json)
    RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    parent uuid;
BEGIN
    UPDATE auralink.runs r
    SET status = as_status, reason = NULL, output = its_output,
        error = CASE as_status WHEN 'succeeded' THEN NULL ELSE coalesce(its_error, r.error) END,
        failures = r.failures + CASE as_status WHEN 'failed' THEN 1 ELSE 0 END
    WHERE r.id = run AND r.attempt = of_attempt AND r.status = 'running'
    RETURNING r.parent_id INTO parent;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM auralink.child_has_ended(parent);
    RETURN true;
END $$;
