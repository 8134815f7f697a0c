-- Definitions that start runs (agents, workflows), what starts them by itself (schedules, webhooks), and agents' threads. A run keeps
-- the definition that it was accepted with; `version` says which that was.

CREATE TABLE auralink.agents (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    version      integer NOT NULL DEFAULT 1,
    instructions text NOT NULL,
    model        text NOT NULL,
    tools        jsonb NOT NULL DEFAULT '[]',   -- names as in /mcp, with * for any characters
    memory       text,                          -- the connection that it remembers with; NULL: it does not
    limits       jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name),
    UNIQUE (user_id, id)
);
CREATE INDEX agents_list ON auralink.agents (user_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.agents');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.agents TO auralink_service;

CREATE TABLE auralink.agent_threads (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    agent_id   uuid NOT NULL,
    turns      integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, id),
    FOREIGN KEY (user_id, agent_id) REFERENCES auralink.agents (user_id, id) ON DELETE CASCADE
);
CREATE INDEX agent_threads_list ON auralink.agent_threads (agent_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.agent_threads');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.agent_threads TO auralink_service;

-- What was said in a thread and what the agent answered: once its run has succeeded, in the same transaction.
CREATE TABLE auralink.agent_turns (
    thread_id uuid NOT NULL,
    seq       integer NOT NULL,
    user_id   uuid NOT NULL,
    run_id    uuid NOT NULL,
    message   text NOT NULL,
    answer    text,
    status    text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'succeeded', 'failed', 'cancelled')),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (thread_id, seq),
    FOREIGN KEY (user_id, thread_id) REFERENCES auralink.agent_threads (user_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX agent_turns_run ON auralink.agent_turns (run_id);
CALL auralink.protect_tenant_table('auralink.agent_turns');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.agent_turns TO auralink_service;
GRANT SELECT, UPDATE ON auralink.agent_turns TO auralink_system;  -- who reconciles runs ends some of them

CREATE FUNCTION auralink.keep_answer() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE auralink.agent_turns SET answer = NEW.output->>'answer', status = NEW.status WHERE run_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_answer AFTER UPDATE OF status ON auralink.runs
    FOR EACH ROW WHEN (NEW.kind = 'agent' AND NEW.status IN ('succeeded', 'failed', 'cancelled')) EXECUTE FUNCTION auralink.keep_answer();

CREATE TABLE auralink.agent_workflows (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL,
    name               text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    workflow_type      text NOT NULL CHECK (workflow_type IN ('qa', 'summarization', 'moderation', 'auto_join', 'custom')),
    version            integer NOT NULL DEFAULT 1,
    description        text NOT NULL DEFAULT '',
    agent_id           uuid,                    -- whose model and instructions nodes use that name none
    definition         json,                    -- NULL: the template of the type, as it is when a run is accepted
    mcp_integrations   jsonb NOT NULL DEFAULT '[]',
    trigger_conditions jsonb,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name),
    UNIQUE (user_id, id),
    CHECK (workflow_type <> 'custom' OR definition IS NOT NULL),
    FOREIGN KEY (user_id, agent_id) REFERENCES auralink.agents (user_id, id)
);
CREATE INDEX agent_workflows_list ON auralink.agent_workflows (user_id, created_at, id);
CREATE INDEX agent_workflows_agent ON auralink.agent_workflows (agent_id) WHERE agent_id IS NOT NULL;
CALL auralink.protect_tenant_table('auralink.agent_workflows');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.agent_workflows TO auralink_service;

CREATE TABLE auralink.schedules (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kind          text NOT NULL CHECK (kind IN ('agent', 'workflow', 'team', 'flow')),
    definition_id uuid NOT NULL,
    cron          text,
    interval_seconds double precision CHECK (interval_seconds >= 1),
    timezone      text NOT NULL DEFAULT 'UTC',                 -- of cron
    input         json NOT NULL DEFAULT '{}',
    room_id       text,
    call_id       text,
    missed        text NOT NULL DEFAULT 'skip' CHECK (missed IN ('skip', 'catch_up')),
    paused        boolean NOT NULL DEFAULT false,
    next_at       timestamptz,                                 -- NULL while paused
    last_at       timestamptz,                                 -- the due time of the last run
    last_run_id   uuid,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((cron IS NULL) <> (interval_seconds IS NULL)),
    CHECK (paused = (next_at IS NULL)),
    UNIQUE (user_id, name)
);
CREATE INDEX schedules_list ON auralink.schedules (user_id, created_at, id);
CREATE INDEX schedules_due ON auralink.schedules (next_at) WHERE next_at IS NOT NULL;
CALL auralink.protect_tenant_table('auralink.schedules');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.schedules TO auralink_service;
GRANT SELECT ON auralink.schedules TO auralink_system;

-- Whose schedules are due, the longest first; each is then claimed, and its run accepted, as its user.
CREATE FUNCTION auralink.due_schedules(most integer) RETURNS TABLE (id uuid, user_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT s.id, s.user_id FROM auralink.schedules s WHERE s.next_at <= clock_timestamp() ORDER BY s.next_at LIMIT most;
END;

CREATE TABLE auralink.webhooks (
    id               uuid PRIMARY KEY,
    user_id          uuid NOT NULL,
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kind             text NOT NULL CHECK (kind IN ('agent', 'workflow', 'team', 'flow')),
    definition_id    uuid NOT NULL,
    input            json,                      -- made of the event; NULL: the event's data
    paused           boolean NOT NULL DEFAULT false,
    encrypted_secret bytea NOT NULL,
    last_event_at    timestamptz,
    last_run_id      uuid,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, name)
);
CREATE INDEX webhooks_list ON auralink.webhooks (user_id, created_at, id);
CALL auralink.protect_tenant_table('auralink.webhooks');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.webhooks TO auralink_service;
GRANT SELECT ON auralink.webhooks TO auralink_system;

-- Whose a webhook is: who delivers an event carries no token; what he signed is then checked as this user.
CREATE FUNCTION auralink.owner_of_webhook(webhook uuid) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT w.user_id FROM auralink.webhooks w WHERE w.id = webhook;
END;

GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.due_schedules(integer) OWNER TO auralink_system;
ALTER FUNCTION auralink.owner_of_webhook(uuid) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON FUNCTION auralink.due_schedules(integer), auralink.owner_of_webhook(uuid), auralink.keep_answer() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.due_schedules(integer), auralink.owner_of_webhook(uuid) TO auralink_service;
