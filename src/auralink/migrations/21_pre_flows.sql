-- Flows: pipelines of tools, models, agents, teams and workflows, and what the steps of their runs came to.

CREATE TABLE auralink.prefect_flows (
    id          uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    version     integer NOT NULL DEFAULT 1,
    flow_type   text NOT NULL CHECK (length(flow_type) BETWEEN 1 AND 200),  -- what it is called by its owner; nothing depends on it
    description text NOT NULL DEFAULT '',
    definition  json,                               -- NULL: the template's, as it is when a run is accepted
    template    text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name),
    UNIQUE (user_id, id),
    CHECK ((definition IS NULL) <> (template IS NULL))
);
CREATE INDEX prefect_flows_list ON auralink.prefect_flows (user_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.prefect_flows');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.prefect_flows TO auralink_service;

CREATE OR REPLACE VIEW auralink.prefect_flow_runs WITH (security_invoker = true) AS
    SELECT id AS flow_run_id, user_id, definition_id AS flow_id, status, reason, step AS current_task, state, input AS input_parameters,
           output AS result, error, steps, tokens, cost_usd, accepted_at, started_at, finished_at,
           definition->>'flow_version' AS flow_version, attempt, definition
    FROM auralink.runs WHERE kind = 'flow';

-- What the engine last said of each task of a flow's run: a step, or `step[3]` for its fourth time. An attempt tells the run from its
-- beginning, so only the last one counts; `seconds` are the longest that any attempt took, since a replay takes none.
CREATE VIEW auralink.prefect_flow_tasks WITH (security_invoker = true) AS
    SELECT DISTINCT ON (flow_run_id, task) flow_run_id, user_id, task, split_part(task, '[', 1) AS step, state,
           first_value(seq) OVER (PARTITION BY flow_run_id, task ORDER BY seq) AS begun, seconds, calls, error, at
    FROM (
        SELECT r.id AS flow_run_id, r.user_id, e.seq, e.at, e.data->>'node' AS task, e.data->>'state' AS state, e.data->>'error' AS error,
               CASE json_typeof(e.data->'calls') WHEN 'array' THEN e.data->'calls' ELSE '[]' END AS calls,
               max(CASE json_typeof(e.data->'seconds') WHEN 'number' THEN (e.data->>'seconds')::double precision END)
                   OVER (PARTITION BY r.id, e.data->>'node') AS seconds, last.attempt
        FROM auralink.runs r
        CROSS JOIN LATERAL (SELECT max(b.seq) AS attempt FROM auralink.run_events b
                            WHERE b.run_id = r.id AND b.type IN ('run.started', 'run.resumed')) AS last
        JOIN auralink.run_events e ON e.run_id = r.id AND e.type = 'state' AND e.data->>'node' IS NOT NULL
        WHERE r.kind = 'flow'
    ) AS said
    WHERE seq > attempt
    ORDER BY flow_run_id, task, seq DESC;
GRANT SELECT ON auralink.prefect_flow_tasks TO auralink_service;
