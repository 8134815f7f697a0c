-- Teams: members with roles who work together in a mode of an engine. Which engines and modes there are is not for the database to know.

CREATE TABLE auralink.agent_teams (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL,
    name               text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    version            integer NOT NULL DEFAULT 1,  -- raised by a change of the team or of a member
    description        text NOT NULL DEFAULT '',
    team_type          text NOT NULL,               -- an engine's name
    collaboration_mode text NOT NULL,
    template           text,                        -- that its members were made from
    task               text NOT NULL DEFAULT '',    -- what it does where an execution does not say
    model              text NOT NULL DEFAULT 'auto', -- of members that name none, and of whoever selects, judges or manages
    manager            text,                        -- a member's name
    options            jsonb NOT NULL DEFAULT '{}',
    memory             text,                        -- the connection that what was learned is written to; NULL: none
    limits             jsonb NOT NULL DEFAULT '{}',
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name),
    UNIQUE (user_id, id)
);
CREATE INDEX agent_teams_list ON auralink.agent_teams (user_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.agent_teams');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.agent_teams TO auralink_service;

CREATE TABLE auralink.team_members (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    team_id         uuid NOT NULL,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    role            text NOT NULL CHECK (length(role) BETWEEN 1 AND 200),
    goal            text NOT NULL DEFAULT '',
    instructions    text NOT NULL DEFAULT '',
    model           text,                           -- NULL: the agent's, else the team's
    tools           jsonb NOT NULL DEFAULT '[]',    -- as they were given
    tool_names      jsonb NOT NULL DEFAULT '[]',    -- as in /mcp, each exactly
    execution_order integer NOT NULL,
    can_delegate    boolean NOT NULL DEFAULT false,
    agent_id        uuid,                           -- whose model and instructions it has where it names none
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (team_id, name),
    FOREIGN KEY (user_id, team_id) REFERENCES auralink.agent_teams (user_id, id) ON DELETE CASCADE,
    FOREIGN KEY (user_id, agent_id) REFERENCES auralink.agents (user_id, id)
);
CREATE INDEX team_members_agent ON auralink.team_members (agent_id) WHERE agent_id IS NOT NULL;
CALL auralink.protect_tenant_table('auralink.team_members');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.team_members TO auralink_service;

-- One task given to a team on several engines or models, to see them side by side.
CREATE TABLE auralink.team_comparisons (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    team_id    uuid NOT NULL,
    task       json NOT NULL,
    runs       jsonb NOT NULL,                      -- [{run_id, engine, mode, model}], in the order in which they were asked for
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, team_id) REFERENCES auralink.agent_teams (user_id, id) ON DELETE CASCADE
);
CREATE INDEX team_comparisons_team ON auralink.team_comparisons (team_id);
CALL auralink.protect_tenant_table('auralink.team_comparisons');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.team_comparisons TO auralink_service;

CREATE OR REPLACE VIEW auralink.team_conversations WITH (security_invoker = true) AS
    SELECT id AS conversation_id, user_id, definition_id AS team_id, engine AS team_type, status, reason, input AS task, output AS result,
           error, steps AS calls, tokens, cost_usd, accepted_at, started_at, finished_at,
           definition->>'mode' AS collaboration_mode, definition->>'version' AS team_version
    FROM auralink.runs WHERE kind = 'team';

-- What was said in a team's run, each message once. An attempt tells the conversation from its beginning: of a run that has ended the
-- last telling counts, of one under way what was said last under each number.
CREATE VIEW auralink.team_messages WITH (security_invoker = true) AS
    SELECT DISTINCT ON (run_id, n) run_id AS conversation_id, user_id, n, data->>'from' AS sender, data->>'to' AS recipient,
           data->>'kind' AS kind, data->>'content' AS content, data->'tool_calls' AS tool_calls, data->'steps' AS steps, at
    FROM (
        SELECT *, max(seq) FILTER (WHERE n = 1) OVER (PARTITION BY run_id) AS begun
        FROM (
            SELECT e.run_id, e.user_id, e.seq, e.data, e.at, r.finished_at,
                   CASE json_typeof(e.data->'n') WHEN 'number' THEN (e.data->>'n')::integer END AS n
            FROM auralink.run_events e JOIN auralink.runs r ON r.id = e.run_id
            WHERE r.kind = 'team' AND e.type = 'message'
        ) AS told
    ) AS numbered
    WHERE n IS NOT NULL AND (finished_at IS NULL OR seq >= begun)
    ORDER BY run_id, n, seq DESC;
GRANT SELECT ON auralink.team_messages TO auralink_service;
