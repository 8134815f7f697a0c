-- Which engines are kept warm: those that have had runs, and those for which a definition is saved. An engine that nobody uses costs
-- nothing, and the first run of one that somebody is about to use finds it ready.

CREATE INDEX runs_engine ON auralink.runs (engine);

-- Those of some engines that have had runs.
CREATE FUNCTION auralink.engines_in_use(names text[]) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT name FROM unnest(names) AS name WHERE EXISTS (SELECT FROM auralink.runs r WHERE r.engine = name);
END;
GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.engines_in_use(text[]) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON FUNCTION auralink.engines_in_use(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.engines_in_use(text[]) TO auralink_service;

-- Lets workers warm the engine of a definition that has just been saved: the one in the column that the argument names, else the
-- argument itself.
CREATE FUNCTION auralink.definition_is_saved() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM auralink.wake_workers(coalesce(to_jsonb(NEW) ->> TG_ARGV[0], TG_ARGV[0]));
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION auralink.definition_is_saved() FROM PUBLIC;
CREATE TRIGGER is_saved AFTER INSERT ON auralink.agents FOR EACH ROW EXECUTE FUNCTION auralink.definition_is_saved('langgraph');
CREATE TRIGGER is_saved AFTER INSERT ON auralink.agent_workflows FOR EACH ROW EXECUTE FUNCTION auralink.definition_is_saved('langgraph');
CREATE TRIGGER is_saved AFTER INSERT ON auralink.agent_teams FOR EACH ROW EXECUTE FUNCTION auralink.definition_is_saved('team_type');
