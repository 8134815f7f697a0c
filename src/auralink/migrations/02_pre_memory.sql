-- The memory server's knowledge graph: entities, the observations made of them, and the relations between their names.
--
-- One graph per user, and one more per agent of a user (`agent_id`; NULL is the user's own). `graph_id` says which without NULL,
-- for constraints, indexes and the planner. A relation joins names and not rows, because the reference server lets one be made
-- before the entities it joins.

-- The two- and three-character pieces of a folded text, hashed together with the graph: an index over them answers "contains"
-- without pg_trgm (contrib), and a search never wades through the postings of another tenant.
-- The hash must stay what it is for as long as rows are stored under it (so do hash partitions, which use the same function).
CREATE FUNCTION auralink.memory_grams(graph uuid, folded text, shortest integer) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 10000
BEGIN ATOMIC
    SELECT array_agg(DISTINCT hashtextextended(gram, hashtextextended(graph::text, 0)))
    FROM (
        SELECT piece || lead(piece) OVER following AS two, piece || lead(piece) OVER following || lead(piece, 2) OVER following AS three
        FROM unnest(string_to_array(folded, NULL)) WITH ORDINALITY AS pieces (piece, place)
        WINDOW following AS (ORDER BY place)
    ) AS grams, LATERAL (VALUES (two), (three)) AS both_kinds (gram)
    WHERE length(gram) >= shortest;
END;
REVOKE ALL ON FUNCTION auralink.memory_grams(uuid, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.memory_grams(uuid, text, integer) TO auralink_service, auralink_system;


CREATE TABLE auralink.memory_entities (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- in the order of creation, which is the order of the graph
    user_id     uuid NOT NULL DEFAULT auralink.current_user_id(),
    agent_id    uuid,
    graph_id    uuid NOT NULL GENERATED ALWAYS AS (coalesce(agent_id, user_id)) STORED,
    name        text NOT NULL CHECK (length(name) <= 500),
    entity_type text NOT NULL CHECK (length(entity_type) <= 500),
    folded      text NOT NULL,                                     -- name, newline, type: lower-cased by the service
    created_at  timestamptz NOT NULL DEFAULT now(),
    search      tsvector GENERATED ALWAYS AS (to_tsvector('simple', folded)) STORED,
    CONSTRAINT memory_entities_name UNIQUE (user_id, graph_id, name),
    CONSTRAINT memory_entities_tenant UNIQUE (user_id, id)         -- for foreign keys, which see past row level security
);
CREATE INDEX memory_entities_grams ON auralink.memory_entities
    USING gin (auralink.memory_grams(graph_id, folded, 2)) WITH (gin_pending_list_limit = 512);
CALL auralink.protect_tenant_table('auralink.memory_entities');
GRANT SELECT, INSERT, DELETE ON auralink.memory_entities TO auralink_service;
GRANT SELECT ON auralink.memory_entities TO auralink_system;

CREATE TABLE auralink.memory_observations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL DEFAULT auralink.current_user_id(),
    agent_id   uuid,
    graph_id   uuid NOT NULL GENERATED ALWAYS AS (coalesce(agent_id, user_id)) STORED,
    entity_id  bigint NOT NULL,
    content    text NOT NULL CHECK (length(content) <= 100000),
    folded     text NOT NULL,                                      -- the entity's name, newline, content: lower-cased
    created_at timestamptz NOT NULL DEFAULT now(),
    search     tsvector GENERATED ALWAYS AS (to_tsvector('simple', folded)) STORED,
    FOREIGN KEY (user_id, entity_id) REFERENCES auralink.memory_entities (user_id, id) ON DELETE CASCADE
);
CREATE INDEX memory_observations_entity ON auralink.memory_observations (entity_id, id);
CREATE INDEX memory_observations_user ON auralink.memory_observations (user_id, graph_id);
CREATE INDEX memory_observations_grams ON auralink.memory_observations
    USING gin (auralink.memory_grams(graph_id, folded, 2)) WITH (gin_pending_list_limit = 512);
CALL auralink.protect_tenant_table('auralink.memory_observations');
GRANT SELECT, INSERT, DELETE ON auralink.memory_observations TO auralink_service;
GRANT SELECT ON auralink.memory_observations TO auralink_system;


CREATE TABLE auralink.memory_relations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       uuid NOT NULL DEFAULT auralink.current_user_id(),
    agent_id      uuid,
    graph_id      uuid NOT NULL GENERATED ALWAYS AS (coalesce(agent_id, user_id)) STORED,
    from_name     text NOT NULL CHECK (length(from_name) <= 500),
    to_name       text NOT NULL CHECK (length(to_name) <= 500),
    relation_type text NOT NULL CHECK (length(relation_type) <= 500),
    digest        bytea NOT NULL,                                  -- SHA-256 of the three, which together outgrow an index entry
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT memory_relations_once UNIQUE (user_id, graph_id, digest)
);
CREATE INDEX memory_relations_from ON auralink.memory_relations (user_id, graph_id, from_name);
CREATE INDEX memory_relations_to ON auralink.memory_relations (user_id, graph_id, to_name);
CALL auralink.protect_tenant_table('auralink.memory_relations');
GRANT SELECT, INSERT, DELETE ON auralink.memory_relations TO auralink_service;


-- Which entities of a graph of the current tenant have a row like all of `patterns`, found by the `pieces` in it (two characters
-- or more), and how well it fits `phrase`; at most `max_rows` rows of each table are looked at. Where a tenth of the graph's
-- observations match, reading them until there are enough is quicker than the index, which first collects every match.
--
-- SECURITY DEFINER, because under row level security a GIN index is out of reach (its operators are not leakproof); the tenant
-- is bound here instead, and the caller reads what it shows through its own policies.
CREATE FUNCTION auralink.memory_hits(graph uuid, phrase text, pieces text[], patterns text[], max_rows integer)
    RETURNS TABLE (entity_id bigint, fit real)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    tenant  uuid := auralink.current_user_id();
    query   tsquery := plainto_tsquery('simple', phrase);
    needle  bigint[];
    matches bigint[];
BEGIN
    SELECT array_agg(gram) INTO needle
    FROM unnest(pieces) AS piece, unnest(auralink.memory_grams(graph, piece, least(3, length(piece)))) AS gram;

    RETURN QUERY
    SELECT id, (CASE WHEN starts_with(folded, phrase || E'\n') THEN 4 WHEN strpos(folded, phrase) > 0 THEN 2 ELSE 0 END
                + ts_rank_cd(search, query, 32))::real
    FROM auralink.memory_entities
    WHERE user_id = tenant AND graph_id = graph
      AND auralink.memory_grams(graph_id, folded, 2) @> needle AND folded LIKE ALL (patterns)
    LIMIT max_rows;

    IF (SELECT count(*) FROM (SELECT folded FROM auralink.memory_observations
                              WHERE user_id = tenant AND graph_id = graph LIMIT 500) AS sample
        WHERE folded LIKE ALL (patterns)) >= 50
    THEN
        matches := ARRAY(SELECT id FROM auralink.memory_observations
                         WHERE user_id = tenant AND graph_id = graph AND folded LIKE ALL (patterns)
                         LIMIT max_rows);
    ELSE
        matches := ARRAY(SELECT id FROM auralink.memory_observations
                         WHERE user_id = tenant AND graph_id = graph
                           AND auralink.memory_grams(graph_id, folded, 2) @> needle AND folded LIKE ALL (patterns)
                         LIMIT max_rows);
    END IF;
    RETURN QUERY
    SELECT o.entity_id, ((strpos(folded, phrase) > 0)::integer + ts_rank_cd(search, query, 32))::real
    FROM auralink.memory_observations o
    WHERE id = ANY (matches);
END $$;
GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.memory_hits(uuid, text, text[], text[], integer) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON FUNCTION auralink.memory_hits(uuid, text, text[], text[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.memory_hits(uuid, text, text[], text[], integer) TO auralink_service;


-- Search by meaning needs pgvector, which an external server may lack; then there is no such column and no such search.
DO $$ BEGIN
    IF to_regtype('public.vector') IS NOT NULL THEN
        ALTER TABLE auralink.memory_observations ADD COLUMN embedding public.vector, ADD COLUMN embedding_model text;
        GRANT UPDATE (embedding, embedding_model) ON auralink.memory_observations TO auralink_service;
    END IF;
END $$;
