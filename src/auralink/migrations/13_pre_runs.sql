-- Runs, their journal and their events (runs.md). A run row is locked by whatever changes it, so that attempts, counters and events
-- of one run have one order.

CREATE TABLE auralink.runs (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('agent', 'workflow', 'team', 'flow')),
    definition_id   uuid,
    engine          text NOT NULL,
    definition      json NOT NULL,                          -- as it was when the run was accepted
    input           json NOT NULL,
    limits          json NOT NULL DEFAULT '{}',
    overrides       json NOT NULL DEFAULT '{}',             -- of a fork: {"model": …}, applied behind the journal
    mode            text NOT NULL DEFAULT 'live' CHECK (mode IN ('live', 'replay')),
    status          text NOT NULL DEFAULT 'queued'
                    CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    reason          text CHECK (reason IN ('approval', 'input', 'budget', 'backoff', 'child', 'outcome_unknown', 'lease_lost')),
    wait_until      timestamptz,                            -- waiting: when it is queued again by itself
    output          json,
    error           json,                                   -- {"type", "message", "traceback"} of the last attempt that failed
    state           json,                                   -- the last `state` event
    step            text,                                   -- where that was: a node, an agent, a task
    attempt         integer NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,             -- attempts that ended in an error
    losses          integer NOT NULL DEFAULT 0,             -- attempts whose lease ran out
    max_attempts    integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    time_limit      double precision NOT NULL DEFAULT 3600 CHECK (time_limit > 0),  -- seconds of running, without waits
    time_used       double precision NOT NULL DEFAULT 0,
    memory_mb       integer NOT NULL DEFAULT 1024 CHECK (memory_mb > 0),
    concurrency     integer CHECK (concurrency > 0),        -- runs of this definition at a time; NULL: any number
    priority        integer NOT NULL DEFAULT 0,             -- among the user's own runs
    room_id         text,
    call_id         text,
    parent_id       uuid,                                   -- the run whose step `parent_seq` started this one
    parent_seq      integer,
    origin_id       uuid NOT NULL,                          -- the first run of its line: what random generators are seeded from
    source_id       uuid,                                   -- the run that this resumes, forks or replays
    idempotency_key text CHECK (length(idempotency_key) <= 255),
    clock           timestamptz NOT NULL DEFAULT now(),     -- the time that prompts see
    accepted_at     timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    claimed_at      timestamptz,
    finished_at     timestamptz,
    worker          uuid,
    lease_until     timestamptz,
    last_seq        integer NOT NULL DEFAULT 0,             -- counters: journal entries, events, beginnings and ends of steps
    last_event      bigint NOT NULL DEFAULT 0,
    tick            bigint NOT NULL DEFAULT 0,
    steps           integer NOT NULL DEFAULT 0,             -- calls made
    replayed        integer NOT NULL DEFAULT 0,             -- calls answered from the journal
    diverged        integer,                                -- entries that the finished run never asked for
    tokens          bigint NOT NULL DEFAULT 0,
    cost_usd        numeric(18, 9) NOT NULL DEFAULT 0,
    UNIQUE (user_id, id)
) WITH (fillfactor = 60);  -- counters change with every step: room for them on the same page
CREATE INDEX runs_list ON auralink.runs (user_id, accepted_at, id);
CREATE INDEX runs_queued ON auralink.runs (user_id, priority DESC, accepted_at, id) WHERE status = 'queued';
CREATE INDEX runs_running ON auralink.runs (user_id) WHERE status = 'running';
CREATE INDEX runs_leases ON auralink.runs (lease_until) WHERE status = 'running';
CREATE INDEX runs_waiting ON auralink.runs (wait_until) WHERE status = 'waiting';
CREATE INDEX runs_children ON auralink.runs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_finished ON auralink.runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX runs_idempotency ON auralink.runs (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CALL auralink.protect_tenant_table('auralink.runs');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.runs TO auralink_service;
GRANT SELECT, UPDATE, DELETE ON auralink.runs TO auralink_system;

-- Every call that a run has made through a gateway, in the order in which they began.
CREATE TABLE auralink.run_journal (
    run_id        uuid NOT NULL,
    seq           integer NOT NULL,
    user_id       uuid NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('llm', 'tool', 'list', 'approval', 'run')),
    label         text NOT NULL,               -- the tool or model as asked for, for people
    key           bytea NOT NULL,              -- SHA-256 of what determines the answer
    occurrence    integer NOT NULL,            -- how many times an attempt asked for this key
    status        text NOT NULL CHECK (status IN ('started', 'done', 'unknown')),
    sent          boolean NOT NULL DEFAULT true, -- whether the call may have reached somebody
    request       json NOT NULL,
    response      json,                        -- {"result": …} or {"error": {…}}: what was handed to the engine
    attempt       integer NOT NULL,            -- which began it (last)
    asked_in      integer NOT NULL,            -- the attempt that asked for it last
    given_in      integer NOT NULL DEFAULT 0,  -- the attempt that got its answer last
    owner         uuid NOT NULL,               -- whoever makes the call; only that may complete it
    gateway_lease timestamptz NOT NULL,
    began         bigint NOT NULL,             -- the run's tick when it began and when it was done
    done          bigint,
    tokens        bigint NOT NULL DEFAULT 0,
    cost_usd      numeric(18, 9) NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    PRIMARY KEY (run_id, seq),
    UNIQUE (run_id, key, occurrence),
    FOREIGN KEY (user_id, run_id) REFERENCES auralink.runs (user_id, id) ON DELETE CASCADE
);
CALL auralink.protect_tenant_table('auralink.run_journal');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.run_journal TO auralink_service;
GRANT SELECT ON auralink.run_journal TO auralink_system;

-- What happened to a run. `seq` comes from the locked run row, so that the order of commits is the order of events.
CREATE TABLE auralink.run_events (
    run_id  uuid NOT NULL,
    seq     bigint NOT NULL,
    user_id uuid NOT NULL,
    type    text NOT NULL,
    data    json NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, seq),
    FOREIGN KEY (user_id, run_id) REFERENCES auralink.runs (user_id, id) ON DELETE CASCADE
);
CALL auralink.protect_tenant_table('auralink.run_events');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.run_events TO auralink_service;
GRANT SELECT, INSERT ON auralink.run_events TO auralink_system;

-- When a run of a user was last taken: whose turn it is.
CREATE TABLE auralink.run_turns (
    user_id uuid PRIMARY KEY,
    at      timestamptz NOT NULL
);
CALL auralink.protect_tenant_table('auralink.run_turns');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.run_turns TO auralink_system;

-- An approval may belong to a step of a run; one that `ask_approval` asks for belongs to no connection.
ALTER TABLE auralink.approvals
    ALTER COLUMN connection_id DROP NOT NULL,
    ADD COLUMN run_id uuid,
    ADD COLUMN run_seq integer,
    ADD FOREIGN KEY (user_id, run_id) REFERENCES auralink.runs (user_id, id) ON DELETE CASCADE;
CREATE UNIQUE INDEX approvals_step ON auralink.approvals (run_id, run_seq) WHERE run_id IS NOT NULL;
GRANT SELECT ON auralink.approvals TO auralink_system;


-- A change of status is an event, and tells of itself what the columns say. Leaving `running` ends the lease and counts the time.
CREATE FUNCTION auralink.run_changes_status() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    happened text := CASE NEW.status WHEN 'queued' THEN 'run.queued' WHEN 'waiting' THEN 'run.waiting'
                                     WHEN 'running' THEN CASE WHEN NEW.attempt = 1 THEN 'run.started' ELSE 'run.resumed' END
                                     ELSE 'run.finished' END;
BEGIN
    IF OLD.status = 'running' THEN
        NEW.time_used := OLD.time_used + extract(epoch FROM clock_timestamp() - OLD.claimed_at);
        NEW.lease_until := NULL;
        NEW.worker := NULL;
    END IF;
    IF NEW.status IN ('succeeded', 'failed', 'cancelled') THEN
        NEW.finished_at := clock_timestamp();
        NEW.diverged := (SELECT count(*) FROM auralink.run_journal j WHERE j.run_id = NEW.id AND j.asked_in < NEW.attempt);
    END IF;
    NEW.last_event := NEW.last_event + 1;
    INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
    VALUES (NEW.id, NEW.last_event, NEW.user_id, happened, CASE WHEN happened = 'run.finished'
        THEN json_build_object('status', NEW.status, 'attempt', NEW.attempt, 'output', NEW.output,
                               'error', CASE NEW.status WHEN 'failed' THEN NEW.error END)
        ELSE json_build_object('status', NEW.status, 'attempt', NEW.attempt, 'reason', NEW.reason, 'until', NEW.wait_until,
                               'error', CASE NEW.reason WHEN 'backoff' THEN NEW.error END) END);
    RETURN NEW;
END $$;
CREATE TRIGGER changes_status BEFORE UPDATE OF status ON auralink.runs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION auralink.run_changes_status();
CREATE TRIGGER announce_change AFTER UPDATE OF status ON auralink.runs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION auralink.announce_change();

CREATE FUNCTION auralink.run_is_accepted() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE auralink.runs SET last_event = last_event + 1 WHERE id = NEW.id;
    INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
    SELECT r.id, r.last_event, r.user_id, 'run.queued', json_build_object('status', r.status, 'attempt', r.attempt)
    FROM auralink.runs r WHERE r.id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER is_accepted AFTER INSERT ON auralink.runs FOR EACH ROW EXECUTE FUNCTION auralink.run_is_accepted();

-- A job for workers of an engine: somebody look. In the transaction of whatever has queued a run.
CREATE FUNCTION auralink.wake_workers(engine text, jobs integer DEFAULT 1) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT procrastinate.procrastinate_defer_jobs_v1(array_agg(
        ROW(engine, 'auralink.take_run', 0, NULL, NULL, '{}'::jsonb, NULL)::procrastinate.procrastinate_job_to_defer_v1))
    FROM generate_series(1, jobs);
END;

-- Ends a wait: the run is queued again, with its wake-up. False if it was not waiting.
CREATE FUNCTION auralink.requeue_run(run uuid) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    its_engine text;
BEGIN
    UPDATE auralink.runs SET status = 'queued', reason = NULL, wait_until = NULL WHERE id = run AND status = 'waiting'
    RETURNING engine INTO its_engine;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM auralink.wake_workers(its_engine);
    RETURN true;
END $$;


-- Another limit ends the waits for a budget; a run whose budget is still too small waits again.
CREATE FUNCTION auralink.budget_has_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM auralink.requeue_run(r.id) FROM auralink.runs r
    WHERE r.user_id = coalesce(NEW.user_id, OLD.user_id) AND r.status = 'waiting' AND r.reason = 'budget';
    RETURN NULL;
END $$;
CREATE TRIGGER budget_has_changed AFTER INSERT OR UPDATE OR DELETE ON auralink.usage_limits
    FOR EACH ROW EXECUTE FUNCTION auralink.budget_has_changed();

-- Takes the next run for a worker: attempt and lease in one statement. Whose turn it is: who has the fewest running, then who has
-- waited longest; of that user's runs the one of the highest priority, then the oldest. One claim at a time keeps the limits exact.
CREATE FUNCTION auralink.claim_run(claimer uuid, engines text[], lease double precision, per_user integer)
    RETURNS SETOF auralink.runs
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    tenant uuid;
    chosen uuid;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('auralink.claim_run'));
    FOR tenant IN
        WITH RECURSIVE queued AS (  -- each user with a queued run, by one probe of the index
            (SELECT r.user_id FROM auralink.runs r WHERE r.status = 'queued' ORDER BY r.user_id LIMIT 1)
            UNION ALL
            SELECT (SELECT r.user_id FROM auralink.runs r WHERE r.status = 'queued' AND r.user_id > q.user_id
                    ORDER BY r.user_id LIMIT 1)
            FROM queued q WHERE q.user_id IS NOT NULL
        )
        SELECT q.user_id FROM queued q
        LEFT JOIN auralink.run_turns t ON t.user_id = q.user_id
        CROSS JOIN LATERAL (SELECT count(*) AS running FROM auralink.runs r
                            WHERE r.user_id = q.user_id AND r.status = 'running') AS busy
        WHERE q.user_id IS NOT NULL AND busy.running < per_user
        ORDER BY busy.running, t.at NULLS FIRST
    LOOP
        SELECT r.id INTO chosen FROM auralink.runs r
        WHERE r.user_id = tenant AND r.status = 'queued' AND r.engine = ANY (engines)
          AND (r.concurrency IS NULL OR r.concurrency > (
                SELECT count(*) FROM auralink.runs o
                WHERE o.user_id = tenant AND o.status = 'running' AND o.definition_id = r.definition_id))
        ORDER BY r.priority DESC, r.accepted_at, r.id LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO auralink.run_turns VALUES (tenant, clock_timestamp())
        ON CONFLICT (user_id) DO UPDATE SET at = excluded.at;
        RETURN QUERY UPDATE auralink.runs
            SET status = 'running', reason = NULL, attempt = attempt + 1, worker = claimer, claimed_at = clock_timestamp(),
                started_at = coalesce(started_at, clock_timestamp()), lease_until = clock_timestamp() + make_interval(secs => lease)
            WHERE id = chosen RETURNING *;
        RETURN;
    END LOOP;
END $$;

-- Renews the leases of a worker's runs, [run ids] with [attempts], and says which of them are not its own any more and why:
-- their status, 'lost' if another attempt has begun.
CREATE FUNCTION auralink.renew_leases(held uuid[], attempts integer[], lease double precision)
    RETURNS TABLE (run_id uuid, status text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RETURN QUERY
    WITH mine AS (
        SELECT h.id, h.attempt FROM unnest(held, attempts) AS h(id, attempt)
    ), renewed AS (
        UPDATE auralink.runs r SET lease_until = clock_timestamp() + make_interval(secs => lease)
        WHERE r.id IN (  -- in one order, so that two workers never wait for each other
                SELECT l.id FROM auralink.runs l JOIN mine m ON m.id = l.id AND m.attempt = l.attempt
                WHERE l.status = 'running' ORDER BY l.id FOR NO KEY UPDATE OF l)
        RETURNING r.id
    )
    SELECT m.id, CASE WHEN r.attempt = m.attempt THEN r.status ELSE 'lost' END
    FROM mine m LEFT JOIN auralink.runs r ON r.id = m.id
    WHERE m.id NOT IN (SELECT n.id FROM renewed n);
END $$;

-- Queues the runs of a worker that stops: another goes on with them at once.
CREATE FUNCTION auralink.give_back_runs(held uuid[], attempts integer[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    given record;
BEGIN
    FOR given IN SELECT r.id, r.engine FROM auralink.runs r JOIN unnest(held, attempts) AS h(id, attempt) USING (id, attempt)
                 WHERE r.status = 'running' ORDER BY r.id FOR NO KEY UPDATE OF r LOOP
        UPDATE auralink.runs SET status = 'queued' WHERE id = given.id;
        PERFORM auralink.wake_workers(given.engine);
    END LOOP;
END $$;

-- Puts right what nobody else will: leases that ran out, waits that are over, runs without a job, jobs of dead workers.
CREATE FUNCTION auralink.reconcile_runs(max_losses integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    put_right integer := 0;
    found     record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('auralink.reconcile_runs')) THEN
        RETURN 0;
    END IF;
    FOR found IN SELECT r.id, r.engine, r.losses FROM auralink.runs r
                 WHERE r.status = 'running' AND r.lease_until < clock_timestamp()
                 ORDER BY r.id LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED LOOP
        put_right := put_right + 1;
        IF found.losses >= max_losses THEN
            UPDATE auralink.runs SET status = 'failed', reason = NULL, losses = losses + 1, error = json_build_object(
                'type', 'WorkerLost', 'message', format('its worker ended %s times without a word', found.losses + 1))
            WHERE id = found.id;
        ELSE
            UPDATE auralink.runs SET status = 'queued', reason = 'lease_lost', losses = losses + 1 WHERE id = found.id;
            PERFORM auralink.wake_workers(found.engine);
        END IF;
    END LOOP;
    FOR found IN SELECT r.id FROM auralink.runs r
                 WHERE r.status = 'waiting' AND (r.wait_until <= clock_timestamp()
                    -- The decision, or the end of the child, that the run waits for came while it was not yet waiting.
                    OR r.reason = 'approval' AND NOT EXISTS (
                        SELECT FROM auralink.approvals a WHERE a.run_id = r.id AND a.status = 'pending')
                    OR r.reason = 'child' AND NOT EXISTS (
                        SELECT FROM auralink.runs c WHERE c.parent_id = r.id AND c.status IN ('queued', 'running', 'waiting'))
                    OR r.reason = 'outcome_unknown' AND NOT EXISTS (
                        SELECT FROM auralink.run_journal j WHERE j.run_id = r.id AND j.status = 'unknown'))
                 ORDER BY r.id LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED LOOP
        PERFORM auralink.requeue_run(found.id);
        put_right := put_right + 1;
    END LOOP;
    DELETE FROM procrastinate.procrastinate_jobs j
    WHERE j.status = 'doing' AND NOT EXISTS (SELECT FROM procrastinate.procrastinate_workers w
        WHERE w.id = j.worker_id AND w.last_heartbeat > now() - interval '1 minute');
    FOR found IN SELECT r.engine, least(count(*), 100)::integer AS runs FROM auralink.runs r WHERE r.status = 'queued'
                 GROUP BY r.engine
                 HAVING NOT EXISTS (SELECT FROM procrastinate.procrastinate_jobs j
                                    WHERE j.status = 'todo' AND j.queue_name = r.engine) LOOP
        PERFORM auralink.wake_workers(found.engine, found.runs);
    END LOOP;
    RETURN put_right;
END $$;

-- Finished runs older than `days` go, with their journals, events and approvals; some at a time.
CREATE FUNCTION auralink.forget_runs(days integer) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM auralink.runs WHERE id IN (
            SELECT id FROM auralink.runs WHERE finished_at < now() - make_interval(days => days) ORDER BY finished_at LIMIT 5000)
        RETURNING 1)
    SELECT count(*) FROM gone;
END;

-- Figures for the metrics, over all users: what waits in the queue and for how long, what runs, what has ended.
CREATE FUNCTION auralink.run_statistics()
    RETURNS TABLE (engine text, status text, runs bigint, oldest_seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT r.engine, r.status, count(*), coalesce(extract(epoch FROM now() - min(r.accepted_at)), 0)::double precision
    FROM auralink.runs r GROUP BY r.engine, r.status;
END;


-- The first thing a gateway does with a call of a run, in one round trip: it locks the run, checks the fence, finds the call's
-- place in the journal, and says what to do.
--   stale       the attempt is not the current one, or the run has ended: refuse
--   hold        the run waits: do not answer
--   replay      the answer is there: give it, and nothing else
--   turn        the answer is there, but an answer that came before it then has not been given yet: ask again with `at_seq`
--   join        another process may still be making the call: ask again with `at_seq`
--   begin       make the call
--   again       make the call if it may be made twice: whoever made it died, and it may have happened
--   divergence  a replay asks for what its journal does not hold
CREATE FUNCTION auralink.journal_begin(
        tenant uuid, run uuid, of_attempt integer, of_kind text, of_label text, of_key bytea, of_request text, is_retry boolean,
        claimer uuid, lease double precision, at_seq integer, in_turn boolean,
        OUT verdict text, OUT seq integer, OUT response json, OUT overrides json)
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    r    record;
    step auralink.run_journal;
    nth  integer;
BEGIN
    PERFORM set_config('app.current_user_id', tenant::text, true);
    SELECT runs.status, runs.attempt, runs.mode, runs.last_seq, runs.last_event, runs.tick, runs.overrides INTO r
    FROM auralink.runs WHERE id = run FOR NO KEY UPDATE;
    overrides := r.overrides;
    IF r.attempt IS DISTINCT FROM of_attempt OR r.status NOT IN ('running', 'waiting') THEN
        verdict := 'stale';
        RETURN;
    ELSIF r.status = 'waiting' THEN
        verdict := 'hold';
        RETURN;
    END IF;
    IF at_seq IS NOT NULL THEN
        SELECT * INTO step FROM auralink.run_journal j WHERE j.run_id = run AND j.seq = at_seq;
    ELSE
        IF is_retry THEN  -- the client has lost the answer of a call that this attempt has made: the same call
            SELECT * INTO step FROM auralink.run_journal j
            WHERE j.run_id = run AND j.key = of_key AND j.asked_in = of_attempt ORDER BY j.occurrence DESC LIMIT 1;
        END IF;
        IF step.seq IS NULL THEN
            SELECT * INTO step FROM auralink.run_journal j
            WHERE j.run_id = run AND j.key = of_key AND j.asked_in < of_attempt ORDER BY j.occurrence LIMIT 1;
        END IF;
    END IF;
    seq := step.seq;

    IF step.status = 'done' THEN
        verdict := CASE WHEN in_turn AND step.given_in < of_attempt AND EXISTS (
            SELECT FROM auralink.run_journal j
            WHERE j.run_id = run AND j.done < step.done AND j.done > step.began AND j.given_in < of_attempt) THEN 'turn'
            ELSE 'replay' END;
        UPDATE auralink.run_journal j SET asked_in = of_attempt, given_in = CASE verdict WHEN 'replay' THEN of_attempt ELSE j.given_in END
        WHERE j.run_id = run AND j.seq = step.seq;
        IF verdict = 'replay' THEN
            response := step.response;
            UPDATE auralink.runs SET replayed = replayed + 1, last_event = last_event + 1 WHERE id = run;
            INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
            VALUES (run, r.last_event + 1, tenant, 'step.replayed', json_build_object(
                'step', step.seq, 'kind', step.kind, 'name', step.label, 'attempt', of_attempt));
        END IF;
        RETURN;
    ELSIF step.status = 'started' AND step.gateway_lease > clock_timestamp() THEN
        verdict := 'join';
        UPDATE auralink.run_journal j SET asked_in = of_attempt WHERE j.run_id = run AND j.seq = step.seq;
        RETURN;
    ELSIF r.mode = 'replay' THEN
        verdict := 'divergence';
        RETURN;
    ELSIF step.status = 'unknown' THEN
        verdict := 'hold';
        UPDATE auralink.runs SET status = 'waiting', reason = 'outcome_unknown' WHERE id = run;
        RETURN;
    ELSIF step.status = 'started' THEN
        verdict := CASE WHEN step.sent THEN 'again' ELSE 'begin' END;
        UPDATE auralink.run_journal j
        SET asked_in = of_attempt, attempt = of_attempt, owner = claimer, sent = true, started_at = clock_timestamp(),
            gateway_lease = clock_timestamp() + make_interval(secs => lease)
        WHERE j.run_id = run AND j.seq = step.seq;
        UPDATE auralink.runs SET last_event = last_event + 1 WHERE id = run;
    ELSE
        verdict := 'begin';
        seq := r.last_seq + 1;
        SELECT coalesce(max(j.occurrence), 0) + 1 INTO nth FROM auralink.run_journal j WHERE j.run_id = run AND j.key = of_key;
        INSERT INTO auralink.run_journal
            (run_id, seq, user_id, kind, label, key, occurrence, status, request, attempt, asked_in, owner, gateway_lease, began)
        VALUES (run, r.last_seq + 1, tenant, of_kind, of_label, of_key, nth, 'started', of_request::json, of_attempt, of_attempt,
                claimer, clock_timestamp() + make_interval(secs => lease), r.tick + 1);
        UPDATE auralink.runs SET last_seq = last_seq + 1, tick = tick + 1, last_event = last_event + 1 WHERE id = run;
    END IF;
    INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
    VALUES (run, r.last_event + 1, tenant, 'step.started', json_build_object(
        'step', seq, 'kind', of_kind, 'name', of_label, 'attempt', of_attempt));
END $$;

-- Renews the gateway's lease on a long call; false if another has taken the call over.
CREATE FUNCTION auralink.journal_renew(tenant uuid, run uuid, at_seq integer, claimer uuid, lease double precision) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM set_config('app.current_user_id', tenant::text, true);
    UPDATE auralink.run_journal j SET gateway_lease = clock_timestamp() + make_interval(secs => lease)
    WHERE j.run_id = run AND j.seq = at_seq AND j.owner = claimer AND j.status = 'started';
    RETURN FOUND;
END $$;

-- Suspends a run at a step that cannot go on now. The step was not sent, and is begun anew by the next attempt; one of which
-- nobody knows whether it happened stays for a person to decide on. False if the attempt is over.
CREATE FUNCTION auralink.suspend_run(
        run uuid, of_attempt integer, at_seq integer, claimer uuid, why text, until timestamptz) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    its_status text;
BEGIN
    SELECT r.status INTO its_status FROM auralink.runs r WHERE r.id = run AND r.attempt = of_attempt FOR NO KEY UPDATE;
    IF its_status IS NULL OR its_status NOT IN ('running', 'waiting') THEN
        RETURN false;
    END IF;
    UPDATE auralink.run_journal j
    SET status = CASE why WHEN 'outcome_unknown' THEN 'unknown' ELSE j.status END, sent = why = 'outcome_unknown',
        gateway_lease = clock_timestamp()
    WHERE j.run_id = run AND j.seq = at_seq AND j.owner = claimer AND j.status = 'started';
    UPDATE auralink.runs r SET status = 'waiting', reason = why, wait_until = until WHERE r.id = run AND r.status = 'running';
    RETURN true;
END $$;

-- The group commit's part: steps that are done. Only who owns a step completes it. One whose outcome was given up as unknown,
-- and is known now, ends its run's wait.
CREATE FUNCTION auralink.insert_steps(tenant uuid, records json) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    d record;
    r record;
BEGIN
    FOR d IN SELECT * FROM json_to_recordset(records) AS s(
                 run_id uuid, seq integer, owner uuid, kind text, label text, response text, tokens bigint, cost_usd numeric,
                 outcome text) ORDER BY s.run_id, s.seq LOOP
        SELECT runs.status, runs.reason, runs.attempt, runs.tick, runs.last_event INTO r
        FROM auralink.runs WHERE id = d.run_id FOR NO KEY UPDATE;
        UPDATE auralink.run_journal j
        SET status = 'done', response = d.response::json, tokens = d.tokens, cost_usd = d.cost_usd,
            finished_at = clock_timestamp(), done = r.tick + 1, given_in = j.attempt
        WHERE j.run_id = d.run_id AND j.seq = d.seq AND j.owner = d.owner AND j.status IN ('started', 'unknown');
        CONTINUE WHEN NOT FOUND;
        UPDATE auralink.runs
        SET tick = tick + 1, steps = steps + 1, tokens = tokens + d.tokens, cost_usd = cost_usd + d.cost_usd,
            last_event = last_event + 1
        WHERE id = d.run_id AND finished_at IS NULL;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
        VALUES (d.run_id, r.last_event + 1, tenant, 'step.finished', json_build_object(
            'step', d.seq, 'kind', d.kind, 'name', d.label, 'outcome', d.outcome, 'tokens', d.tokens, 'cost_usd', d.cost_usd::text));
        IF r.status = 'waiting' AND r.reason = 'outcome_unknown' AND NOT EXISTS (
                SELECT FROM auralink.run_journal j WHERE j.run_id = d.run_id AND j.status = 'unknown') THEN
            PERFORM auralink.requeue_run(d.run_id);
        END IF;
    END LOOP;
END $$;

-- Writes a batch, [{"user_id": …, "operations": […], "model_calls": […], "steps": […]}, …], each user's rows as that user: one
-- statement, one transaction, one round trip.
CREATE OR REPLACE FUNCTION auralink.record_outcomes(entries json) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    entry json;
    owner uuid;
BEGIN
    FOR entry IN SELECT value FROM json_array_elements(entries) LOOP
        owner := (entry->>'user_id')::uuid;
        PERFORM set_config('app.current_user_id', owner::text, true);
        IF entry->'operations' IS NOT NULL THEN
            PERFORM auralink.insert_operations(owner, entry->'operations');
        END IF;
        IF entry->'model_calls' IS NOT NULL THEN
            PERFORM auralink.insert_model_calls(owner, entry->'model_calls');
        END IF;
        IF entry->'steps' IS NOT NULL THEN
            PERFORM auralink.insert_steps(owner, entry->'steps');
        END IF;
    END LOOP;
END $$;

-- What an engine tells of its run, [{"type": …, "data": …}, …]; nothing is taken from an attempt that is over.
CREATE FUNCTION auralink.add_run_events(run uuid, of_attempt integer, events json) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    base bigint;
    owner uuid;
    said json;
BEGIN
    SELECT r.last_event, r.user_id INTO base, owner FROM auralink.runs r
    WHERE r.id = run AND r.attempt = of_attempt AND r.status = 'running' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO auralink.run_events (run_id, seq, user_id, type, data)
    SELECT run, base + e.nth, owner, e.value->>'type', e.value->'data'
    FROM json_array_elements(events) WITH ORDINALITY AS e(value, nth);
    SELECT e.value->'data' INTO said FROM json_array_elements(events) WITH ORDINALITY AS e(value, nth)
    WHERE e.value->>'type' = 'state' ORDER BY e.nth DESC LIMIT 1;
    UPDATE auralink.runs r
    SET last_event = base + json_array_length(events), state = coalesce(said, r.state), step = coalesce(said->>'node', r.step)
    WHERE r.id = run;
    RETURN true;
END $$;

-- Tells of a run what is not its engine's to say; False once it has ended.
CREATE FUNCTION auralink.tell_of_run(run uuid, what text, about json) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    told record;
BEGIN
    UPDATE auralink.runs SET last_event = last_event + 1 WHERE id = run AND finished_at IS NULL
    RETURNING last_event, user_id INTO told;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO auralink.run_events (run_id, seq, user_id, type, data) VALUES (run, told.last_event, told.user_id, what, about);
    RETURN true;
END $$;

-- Ends an attempt for good. False if it is over already: what an earlier attempt says counts for nothing.
CREATE FUNCTION auralink.finish_run(run uuid, of_attempt integer, as_status text, its_output json, its_error json) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    parent uuid;
BEGIN
    UPDATE auralink.runs r
    SET status = as_status, reason = NULL, output = its_output, error = coalesce(its_error, r.error),
        failures = r.failures + CASE as_status WHEN 'failed' THEN 1 ELSE 0 END
    WHERE r.id = run AND r.attempt = of_attempt AND r.status = 'running'
    RETURNING r.parent_id INTO parent;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM auralink.child_has_ended(parent);
    RETURN true;
END $$;

-- Queues the parent of a run that has ended, if it waits for that.
CREATE FUNCTION auralink.child_has_ended(parent uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT FROM auralink.runs r WHERE r.id = parent AND r.status = 'waiting' AND r.reason = 'child') THEN
        PERFORM auralink.requeue_run(parent);
    END IF;
END $$;

-- Puts a failed attempt off; the run is queued again `after` seconds from now. False if the attempt is over already.
CREATE FUNCTION auralink.put_run_off(
        run uuid, of_attempt integer, its_error json, after double precision, was_lost boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE auralink.runs r
    SET status = 'waiting', reason = 'backoff', wait_until = clock_timestamp() + make_interval(secs => after), error = its_error,
        failures = r.failures + CASE WHEN was_lost THEN 0 ELSE 1 END, losses = r.losses + CASE WHEN was_lost THEN 1 ELSE 0 END
    WHERE r.id = run AND r.attempt = of_attempt AND r.status = 'running';
    RETURN FOUND;
END $$;

-- Cancels a run and what it has started. Whatever works on it learns of it by its fence, its lease and a notice.
CREATE FUNCTION auralink.cancel_run(run uuid) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    parent uuid;
    child  uuid;
BEGIN
    UPDATE auralink.runs r SET status = 'cancelled', reason = NULL, wait_until = NULL
    WHERE r.id = run AND r.finished_at IS NULL
    RETURNING r.parent_id INTO parent;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR child IN SELECT c.id FROM auralink.runs c WHERE c.parent_id = run AND c.finished_at IS NULL ORDER BY c.id LOOP
        PERFORM auralink.cancel_run(child);
    END LOOP;
    PERFORM auralink.child_has_ended(parent);
    RETURN true;
END $$;


-- Runs as their kinds name them.
CREATE VIEW auralink.workflow_executions WITH (security_invoker = true) AS
    SELECT id AS execution_id, user_id, definition_id AS workflow_id, status, reason, step AS current_step, state, input AS input_data,
           output AS output_data, error, room_id, call_id, steps, tokens, cost_usd, accepted_at, started_at, finished_at
    FROM auralink.runs WHERE kind = 'workflow';
CREATE VIEW auralink.team_conversations WITH (security_invoker = true) AS
    SELECT id AS conversation_id, user_id, definition_id AS team_id, engine AS team_type, status, reason, input AS task, output AS result,
           error, steps AS calls, tokens, cost_usd, accepted_at, started_at, finished_at
    FROM auralink.runs WHERE kind = 'team';
CREATE VIEW auralink.prefect_flow_runs WITH (security_invoker = true) AS
    SELECT id AS flow_run_id, user_id, definition_id AS flow_id, status, reason, step AS current_task, state, input AS input_parameters,
           output AS result, error, steps, tokens, cost_usd, accepted_at, started_at, finished_at
    FROM auralink.runs WHERE kind = 'flow';
GRANT SELECT ON auralink.workflow_executions, auralink.team_conversations, auralink.prefect_flow_runs TO auralink_service;


GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.claim_run(uuid, text[], double precision, integer) OWNER TO auralink_system;
ALTER FUNCTION auralink.renew_leases(uuid[], integer[], double precision) OWNER TO auralink_system;
ALTER FUNCTION auralink.give_back_runs(uuid[], integer[]) OWNER TO auralink_system;
ALTER FUNCTION auralink.reconcile_runs(integer) OWNER TO auralink_system;
ALTER FUNCTION auralink.forget_runs(integer) OWNER TO auralink_system;
ALTER FUNCTION auralink.run_statistics() OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA auralink FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.wake_workers(text, integer), auralink.requeue_run(uuid) TO auralink_service, auralink_system;
GRANT EXECUTE ON FUNCTION auralink.claim_run(uuid, text[], double precision, integer),
    auralink.renew_leases(uuid[], integer[], double precision), auralink.give_back_runs(uuid[], integer[]),
    auralink.reconcile_runs(integer), auralink.forget_runs(integer),
    auralink.run_statistics(),
    auralink.journal_begin(uuid, uuid, integer, text, text, bytea, text, boolean, uuid, double precision, integer, boolean),
    auralink.journal_renew(uuid, uuid, integer, uuid, double precision),
    auralink.suspend_run(uuid, integer, integer, uuid, text, timestamptz),
    auralink.insert_steps(uuid, json), auralink.tell_of_run(uuid, text, json), auralink.add_run_events(uuid, integer, json),
    auralink.finish_run(uuid, integer, text, json, json), auralink.child_has_ended(uuid),
    auralink.put_run_off(uuid, integer, json, double precision, boolean), auralink.cancel_run(uuid)
    TO auralink_service;
