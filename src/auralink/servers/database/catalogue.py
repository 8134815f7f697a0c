"""What is asked of a database's own catalogue. Everything is read in a READ ONLY transaction of the user's role."""

LIST_SCHEMAS = """
SELECT n.nspname AS name, pg_catalog.pg_get_userbyid(n.nspowner) AS owner,
       (SELECT count(*) FROM pg_catalog.pg_class c
        WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) AS tables,
       pg_catalog.obj_description(n.oid, 'pg_namespace') AS comment
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
ORDER BY 1
"""

LIST_TABLES = """
SELECT n.nspname || '.' || c.relname AS name, c.relrowsecurity AS rls_enabled,
       CASE WHEN c.relkind IN ('r', 'p', 'm') THEN greatest(c.reltuples, 0)::int8 END AS rows,
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                      ELSE 'table' END AS kind,
       pg_catalog.obj_description(c.oid, 'pg_class') AS comment, c.oid::int8 AS id
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND CASE WHEN cardinality($1::text[]) > 0 THEN n.nspname = ANY($1::text[])
           ELSE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' END
  AND (pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))
ORDER BY 1
"""

LIST_COLUMNS = """
SELECT a.attrelid::int8 AS table_id, a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS data_type,
       t.typname AS format,
       array_remove(ARRAY[
           CASE WHEN a.attidentity <> '' THEN 'identity' END, CASE WHEN a.attgenerated <> '' THEN 'generated' END,
           CASE WHEN NOT a.attnotnull THEN 'nullable' END,
           CASE WHEN pg_catalog.pg_column_is_updatable(a.attrelid, a.attnum, false) THEN 'updatable' END,
           CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'u'
                             AND k.conkey = ARRAY[a.attnum]) THEN 'unique' END], NULL) AS options,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_value,
       CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END AS identity_generation,
       (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = a.atttypid) AS enums,
       (SELECT string_agg(pg_catalog.pg_get_expr(k.conbin, k.conrelid), ' AND ') FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]) AS "check",
       pg_catalog.col_description(a.attrelid, a.attnum) AS comment
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

LIST_KEYS = """
SELECT k.conrelid::int8 AS table_id, k.contype = 'p' AS is_primary, k.conname AS name, a.attname AS "column",
       n.nspname || '.' || c.relname || '.' || a.attname AS source, fn.nspname || '.' || fc.relname || '.' || fa.attname AS target
FROM pg_catalog.pg_constraint k
     JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS own (number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = own.number
     LEFT JOIN pg_catalog.pg_class fc ON fc.oid = k.confrelid LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
     LEFT JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.confrelid AND fa.attnum = k.confkey[own.place]
WHERE k.conrelid = ANY($1::oid[]) AND k.contype IN ('p', 'f')
ORDER BY k.conrelid, k.conname, own.place
"""

LIST_EXTENSIONS = """
SELECT e.name, n.nspname AS schema, e.default_version, x.extversion AS installed_version, e.comment
FROM pg_catalog.pg_available_extensions() AS e (name, default_version, comment)
     LEFT JOIN pg_catalog.pg_extension x ON x.extname = e.name LEFT JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace
ORDER BY x.extversion IS NULL, e.name
"""

HAS_MIGRATIONS = "SELECT to_regclass('supabase_migrations.schema_migrations') IS NOT NULL AS yes"
LIST_MIGRATIONS = "SELECT version, name FROM supabase_migrations.schema_migrations ORDER BY version"

PREPARE_MIGRATIONS = (
    "CREATE SCHEMA IF NOT EXISTS supabase_migrations",
    "CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY)",
    "ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[]",
    "ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text",
)
"""As the Supabase CLI makes it; a version is the time in UTC, `YYYYMMDDHHMMSS`."""

RECORD_MIGRATION = """
INSERT INTO supabase_migrations.schema_migrations (version, name, statements)
SELECT to_char(greatest(now() AT TIME ZONE 'UTC',
                        to_timestamp(max(version), 'YYYYMMDDHH24MISS')::timestamp + interval '1 second'),
               'YYYYMMDDHH24MISS'), $1::text, $2::text[]
FROM supabase_migrations.schema_migrations WHERE version ~ '^[0-9]{14}$'
RETURNING version
"""

SEARCH_DOCS = """
WITH documents AS (
    SELECT 'table' AS kind, n.nspname || '.' || c.relname AS title, d.description AS content, 3 AS weight
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
    UNION ALL
    SELECT 'column', n.nspname || '.' || c.relname || '.' || a.attname, d.description, 3
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid > 0
    UNION ALL
    SELECT 'function', p.proname || '(' || pg_catalog.pg_get_function_arguments(p.oid) || ')',
           d.description || ' (returns ' || pg_catalog.pg_get_function_result(p.oid) || ')', 1
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_proc p ON p.oid = d.objoid
    WHERE d.classoid = 'pg_catalog.pg_proc'::regclass AND p.prokind <> 'p'
    UNION ALL
    SELECT 'type', pg_catalog.format_type(t.oid, NULL), d.description, 1
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_type t ON t.oid = d.objoid
    WHERE d.classoid = 'pg_catalog.pg_type'::regclass AND t.typtype <> 'c'
    UNION ALL
    SELECT 'setting', name, concat_ws(' ', short_desc, extra_desc), 1 FROM pg_catalog.pg_settings
), ranked AS (
    SELECT kind, title, content, weight, to_tsvector('english', translate(title, '_.', '  ') || ' ' || content) AS words,
           websearch_to_tsquery('english', $1::text) AS wanted
    FROM documents
)
SELECT kind, title, content FROM ranked
WHERE words @@ wanted OR strpos(lower(title), lower($1::text)) > 0
ORDER BY weight * (ts_rank(words, wanted) + CASE WHEN starts_with(lower(title), lower($1::text)) THEN 1 ELSE 0 END) DESC, title
LIMIT $2::int
"""

INSPECT_ROLE = """
SELECT r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls,
       ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_roles g
             WHERE pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER') AND g.oid <> r.oid
               AND (g.rolsuper OR g.rolcreaterole OR g.rolbypassrls OR g.rolname IN (
                    'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_signal_backend',
                    'pg_write_all_data', 'pg_maintain', 'pg_create_subscription', 'rds_superuser', 'cloudsqlsuperuser'))
             ORDER BY 1) AS powerful,
       (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')) AS writable,
       ARRAY(SELECT extname::text FROM pg_catalog.pg_extension
             WHERE extname IN ('dblink', 'postgres_fdw', 'http', 'pg_net', 'file_fdw', 'adminpack', 'pg_cron', 'plpython3u',
                               'plperlu', 'pltclu')
             ORDER BY 1) AS reaching
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
