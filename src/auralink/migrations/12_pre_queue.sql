-- The job queue: procrastinate's own tables and functions, in a schema of their own. Jobs are wake-ups and say nothing of any
-- tenant (which run is next is decided by auralink.claim_run), so these tables have no row level security.
--
-- The include is taken from the installed package when this runs; the checksum keeps every database the same. Later versions of
-- procrastinate bring files for what changed (procrastinate/sql/migrations): include them in a migration of their own.

CREATE SCHEMA procrastinate;
REVOKE ALL ON SCHEMA procrastinate FROM PUBLIC;
SET LOCAL search_path = procrastinate, pg_catalog;

-- include: procrastinate.sql/schema.sql sha256:c70ec4b400a60ad9592787653aae5ae77ae41bf801d56b5bd2712751a07f2009

-- Its functions name their tables without the schema; so they can be called from anywhere.
DO $$
DECLARE
    fn regprocedure;
BEGIN
    FOR fn IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'procrastinate'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = procrastinate, pg_catalog, pg_temp', fn);
    END LOOP;
END $$;
SET LOCAL search_path TO DEFAULT;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA procrastinate FROM PUBLIC;
GRANT USAGE ON SCHEMA procrastinate TO auralink_service, auralink_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA procrastinate TO auralink_service, auralink_system;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA procrastinate TO auralink_service, auralink_system;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA procrastinate TO auralink_service, auralink_system;
