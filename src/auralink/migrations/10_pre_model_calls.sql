-- The model gateway: users' keys and preferences, one row for each model call, and budgets that are reserved before a call and
-- settled after it. And the group commit, which writes the records of many calls, of every kind, in one statement.

-- A user's own key for a provider; the vault seals it before it comes here. Only the last four characters are readable.
CREATE TABLE auralink.user_llm_keys (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    provider      text NOT NULL,
    base_url      text,                                  -- NULL: the provider's own address
    encrypted_key bytea NOT NULL,
    last4         text NOT NULL CHECK (length(last4) <= 4),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, provider)
);
CALL auralink.protect_tenant_table('auralink.user_llm_keys');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.user_llm_keys TO auralink_service;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.user_llm_keys
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();


-- Which models a user wants `auto` to take, in which order, for which kind of task, and how much each may use in a month.
CREATE TABLE auralink.user_llm_preferences (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL,
    model_id           text NOT NULL,
    priority           integer NOT NULL DEFAULT 0,       -- the higher is tried first
    task_type          text,                             -- NULL: any
    is_default         boolean NOT NULL DEFAULT false,   -- what a request without a model means
    usage_limit_tokens bigint CHECK (usage_limit_tokens > 0),
    cost_limit_usd     numeric(18, 9) CHECK (cost_limit_usd > 0),
    created_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (user_id, model_id, task_type)
);
CREATE UNIQUE INDEX user_llm_preferences_default ON auralink.user_llm_preferences (user_id) WHERE is_default;
CALL auralink.protect_tenant_table('auralink.user_llm_preferences');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.user_llm_preferences TO auralink_service;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.user_llm_preferences
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_change();


-- Every model call: what it took, what it cost, how it ended, and later how good it was.
CREATE TABLE auralink.llm_performance_metrics (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL,
    at                timestamptz NOT NULL,
    run_id            uuid,
    endpoint          text NOT NULL,                     -- 'chat.completions', 'embeddings', 'responses'
    requested         text NOT NULL,                     -- the model as the client named it: a model, 'auto', …
    reason            text,                              -- why `auto` took this one
    model_id          text,                              -- NULL: none was reached
    provider          text,
    task_type         text,
    key_source        text,                              -- 'own', 'operator', 'none'
    streamed          boolean NOT NULL DEFAULT false,
    attempts          integer NOT NULL DEFAULT 1,
    latency_ms        double precision NOT NULL,
    first_token_ms    double precision,
    prompt_tokens     bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens     bigint NOT NULL DEFAULT 0,
    cache_written_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens  bigint NOT NULL DEFAULT 0,
    usage_exact       boolean NOT NULL DEFAULT true,     -- false: counted here, because the provider did not say
    cost_usd          numeric(18, 9),                    -- NULL: the price is not known
    success           boolean NOT NULL,
    outcome           text NOT NULL,                     -- 'ok', or the stable error code
    error_class       text,                              -- rate_limited, overloaded, …
    error             text,
    source            text NOT NULL,
    trace_id          text,
    quality           double precision CHECK (quality BETWEEN 0 AND 1),
    feedback          text
);
CREATE INDEX llm_performance_metrics_user ON auralink.llm_performance_metrics (user_id, at DESC);
CREATE INDEX llm_performance_metrics_recent ON auralink.llm_performance_metrics (at) INCLUDE (model_id, success, latency_ms);
CALL auralink.protect_tenant_table('auralink.llm_performance_metrics');
GRANT SELECT, INSERT, UPDATE ON auralink.llm_performance_metrics TO auralink_service;
GRANT SELECT ON auralink.llm_performance_metrics TO auralink_system;

-- How each model did lately, over all users: what selection orders by. Says nothing of any one user.
CREATE FUNCTION auralink.model_health(hours integer)
    RETURNS TABLE (model_id text, calls bigint, succeeded bigint, p50_ms double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT m.model_id, count(*), count(*) FILTER (WHERE m.success),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY m.latency_ms) FILTER (WHERE m.success)
    FROM auralink.llm_performance_metrics m
    WHERE m.at >= now() - make_interval(hours => hours) AND m.model_id IS NOT NULL
      AND (m.success OR m.error_class IN ('rate_limited', 'overloaded', 'server_error', 'timeout', 'unreachable', 'broken_off'))
    GROUP BY 1;
END;


-- What a user may use. A scope is 'all', 'model:<model id>', 'run:<run id>', or for calls a minute 'tools' or 'models'.
CREATE TABLE auralink.usage_limits (
    user_id      uuid NOT NULL,
    scope        text NOT NULL,
    period       text NOT NULL CHECK (period IN ('minute', 'day', 'month', 'total')),
    max_tokens   bigint CHECK (max_tokens >= 0),
    max_cost_usd numeric(18, 9) CHECK (max_cost_usd >= 0),
    max_calls    integer CHECK (max_calls > 0),
    set_by       text NOT NULL CHECK (set_by IN ('user', 'admin', 'run')),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, scope, period),
    CHECK ((period = 'minute') = (max_calls IS NOT NULL)),
    CHECK (period <> 'minute' OR (max_tokens IS NULL AND max_cost_usd IS NULL))
);
CALL auralink.protect_tenant_table('auralink.usage_limits');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.usage_limits TO auralink_service;

CREATE FUNCTION auralink.announce_user_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('auralink_changed', concat_ws(':', TG_TABLE_NAME, coalesce(NEW.user_id, OLD.user_id),
                                                    coalesce(NEW.user_id, OLD.user_id)));
    RETURN NULL;
END $$;
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE ON auralink.usage_limits
    FOR EACH ROW EXECUTE FUNCTION auralink.announce_user_change();

-- What was used in a period, and what calls under way may use at most.
CREATE TABLE auralink.usage_counters (
    user_id         uuid NOT NULL,
    scope           text NOT NULL,
    period          text NOT NULL,
    starts_at       timestamptz NOT NULL,                -- 'epoch' for the period 'total'
    tokens          bigint NOT NULL DEFAULT 0,
    cost_usd        numeric(18, 9) NOT NULL DEFAULT 0,
    reserved_tokens bigint NOT NULL DEFAULT 0,
    reserved_usd    numeric(18, 9) NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, scope, period, starts_at)
);
CALL auralink.protect_tenant_table('auralink.usage_counters');
GRANT SELECT, INSERT, UPDATE ON auralink.usage_counters TO auralink_service;

-- A reservation has the id of its call. `places` are the counters it stands in.
CREATE TABLE auralink.usage_reservations (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    tokens     bigint NOT NULL,
    cost_usd   numeric(18, 9) NOT NULL,
    places     json NOT NULL,
    expires_at timestamptz NOT NULL                      -- past: its process died; it counts as used
);
CREATE INDEX usage_reservations_user ON auralink.usage_reservations (user_id, expires_at);
CALL auralink.protect_tenant_table('auralink.usage_reservations');
GRANT SELECT, INSERT, DELETE ON auralink.usage_reservations TO auralink_service;

CREATE FUNCTION auralink.period_start(period text, at timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE
    RETURN CASE period WHEN 'total' THEN 'epoch'::timestamptz
                       ELSE date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END;

-- What the current user's dead calls had reserved counts as used: their bill errs on the high side.
CREATE FUNCTION auralink.settle_abandoned_reservations() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    WITH gone AS (
        DELETE FROM auralink.usage_reservations
        WHERE user_id = auralink.current_user_id() AND expires_at < now()
        RETURNING tokens, cost_usd, places
    ), moved AS (
        SELECT p.scope, p.period, p.starts_at, sum(g.tokens) AS tokens, sum(g.cost_usd) AS cost_usd
        FROM gone g, json_to_recordset(g.places) AS p(scope text, period text, starts_at timestamptz)
        GROUP BY 1, 2, 3
    )
    UPDATE auralink.usage_counters c
    SET tokens = c.tokens + m.tokens, cost_usd = c.cost_usd + m.cost_usd,
        reserved_tokens = greatest(c.reserved_tokens - m.tokens, 0), reserved_usd = greatest(c.reserved_usd - m.cost_usd, 0)
    FROM moved m
    WHERE c.user_id = auralink.current_user_id() AND (c.scope, c.period, c.starts_at) = (m.scope, m.period, m.starts_at);
END $$;

-- Gives back what a call has reserved, for another try that costs another price.
CREATE FUNCTION auralink.release_reservation(reservation uuid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM auralink.usage_reservations
        WHERE id = reservation AND user_id = auralink.current_user_id()
        RETURNING tokens, cost_usd, places
    )
    UPDATE auralink.usage_counters c
    SET reserved_tokens = greatest(c.reserved_tokens - g.tokens, 0), reserved_usd = greatest(c.reserved_usd - g.cost_usd, 0)
    FROM gone g, json_to_recordset(g.places) AS p(scope text, period text, starts_at timestamptz)
    WHERE c.user_id = auralink.current_user_id() AND (c.scope, c.period, c.starts_at) = (p.scope, p.period, p.starts_at);
END;

-- Reserves the most that a call may use in every limit that applies to it, all or nothing. NULL: reserved. Else the limit that
-- has no room for it, as JSON. Counters are locked in one order, so that concurrent calls wait and never deadlock.
CREATE FUNCTION auralink.reserve_usage(
        reservation uuid, scopes text[], want_tokens bigint, want_usd numeric, lifetime interval) RETURNS json
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    me      uuid := auralink.current_user_id();
    lim     auralink.usage_limits;
    used    auralink.usage_counters;
    starts  timestamptz;
    places  jsonb := '[]';
    refused json;
BEGIN
    PERFORM auralink.settle_abandoned_reservations();
    PERFORM auralink.release_reservation(reservation);
    FOR lim IN SELECT * FROM auralink.usage_limits
               WHERE user_id = me AND scope = ANY (scopes) AND period <> 'minute' ORDER BY scope, period LOOP
        starts := auralink.period_start(lim.period, now());
        INSERT INTO auralink.usage_counters (user_id, scope, period, starts_at)
        VALUES (me, lim.scope, lim.period, starts) ON CONFLICT DO NOTHING;
        SELECT * INTO used FROM auralink.usage_counters
        WHERE user_id = me AND scope = lim.scope AND period = lim.period AND starts_at = starts FOR UPDATE;
        places := places || jsonb_build_object('scope', lim.scope, 'period', lim.period, 'starts_at', starts);
        IF refused IS NULL AND (used.tokens + used.reserved_tokens + want_tokens > lim.max_tokens
                                OR used.cost_usd + used.reserved_usd + want_usd > lim.max_cost_usd) THEN
            refused := json_build_object(
                'scope', lim.scope, 'period', lim.period,
                'max_tokens', lim.max_tokens, 'tokens_left', greatest(lim.max_tokens - used.tokens - used.reserved_tokens, 0),
                'max_cost_usd', lim.max_cost_usd::text,
                'cost_left_usd', greatest(lim.max_cost_usd - used.cost_usd - used.reserved_usd, 0)::text,
                'resets_at', CASE WHEN lim.period <> 'total' THEN starts + ('1 ' || lim.period)::interval END);
        END IF;
    END LOOP;
    IF refused IS NOT NULL OR places = '[]' THEN
        RETURN refused;
    END IF;
    UPDATE auralink.usage_counters c
    SET reserved_tokens = c.reserved_tokens + want_tokens, reserved_usd = c.reserved_usd + want_usd
    FROM jsonb_to_recordset(places) AS p(scope text, period text, starts_at timestamptz)
    WHERE c.user_id = me AND (c.scope, c.period, c.starts_at) = (p.scope, p.period, p.starts_at);
    INSERT INTO auralink.usage_reservations (id, user_id, tokens, cost_usd, places, expires_at)
    VALUES (reservation, me, want_tokens, want_usd, places::json, now() + lifetime);
    RETURN NULL;
END $$;


-- The group commit's parts: each writes the rows of one kind for one user. They act as their caller, under row level security.
CREATE FUNCTION auralink.insert_operations(owner uuid, records json) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    INSERT INTO auralink.mcp_operation_logs
        (id, user_id, at, connection_id, server, operation, tool, outcome, error, duration_ms, cached, served_by, source,
         trace_id, request_bytes, response_bytes, cost_usd)
    SELECT r.id, owner, r.at, r.connection_id, r.server, r.operation, r.tool, r.outcome, r.error,
           r.duration_ms, r.cached, r.served_by, r.source, r.trace_id, r.request_bytes, r.response_bytes, r.cost_usd
    FROM json_to_recordset(records) AS r(
        id uuid, at timestamptz, connection_id uuid, server text, operation text, tool text, outcome text, error text,
        duration_ms double precision, cached boolean, served_by text, source text, trace_id text,
        request_bytes integer, response_bytes integer, cost_usd numeric)
    ON CONFLICT DO NOTHING;
END;

-- Model calls, and what they used: their reservations go, their usage is counted. A call that is here already counts once.
CREATE FUNCTION auralink.insert_model_calls(owner uuid, records json) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    WITH inserted AS (
        INSERT INTO auralink.llm_performance_metrics
            (id, user_id, at, run_id, endpoint, requested, reason, model_id, provider, task_type, key_source, streamed, attempts,
             latency_ms, first_token_ms, prompt_tokens, completion_tokens, cached_tokens, cache_written_tokens,
             reasoning_tokens, usage_exact, cost_usd, success, outcome, error_class, error, source, trace_id)
        SELECT r.id, owner, r.at, r.run_id, r.endpoint, r.requested, r.reason, r.model_id, r.provider, r.task_type, r.key_source,
               r.streamed, r.attempts, r.latency_ms, r.first_token_ms, r.prompt_tokens, r.completion_tokens, r.cached_tokens,
               r.cache_written_tokens, r.reasoning_tokens, r.usage_exact, r.cost_usd, r.success, r.outcome, r.error_class,
               r.error, r.source, r.trace_id
        FROM json_to_recordset(records) AS r(
            id uuid, at timestamptz, run_id uuid, endpoint text, requested text, reason text, model_id text, provider text,
            task_type text, key_source text, streamed boolean, attempts integer, latency_ms double precision,
            first_token_ms double precision, prompt_tokens bigint, completion_tokens bigint, cached_tokens bigint,
            cache_written_tokens bigint, reasoning_tokens bigint, usage_exact boolean, cost_usd numeric, success boolean,
            outcome text, error_class text, error text, source text, trace_id text)
        ON CONFLICT DO NOTHING
        RETURNING id, at, run_id, model_id, prompt_tokens + completion_tokens AS tokens, coalesce(cost_usd, 0) AS cost_usd
    ), released AS (
        DELETE FROM auralink.usage_reservations r USING inserted i WHERE r.id = i.id RETURNING r.tokens, r.cost_usd, r.places
    ), changes AS (
        SELECT p.scope, p.period, auralink.period_start(p.period, i.at) AS starts_at, i.tokens, i.cost_usd,
               0::bigint AS reserved_tokens, 0::numeric AS reserved_usd
        FROM inserted i, LATERAL (VALUES ('all', 'day'), ('all', 'month'), ('model:' || i.model_id, 'month'),
                                         ('run:' || i.run_id, 'total')) AS p(scope, period)
        WHERE p.scope IS NOT NULL AND i.tokens > 0
        UNION ALL
        SELECT p.scope, p.period, p.starts_at, 0, 0, -r.tokens, -r.cost_usd
        FROM released r, json_to_recordset(r.places) AS p(scope text, period text, starts_at timestamptz)
    )
    INSERT INTO auralink.usage_counters AS c
        (user_id, scope, period, starts_at, tokens, cost_usd, reserved_tokens, reserved_usd)
    SELECT owner, scope, period, starts_at, sum(tokens), sum(cost_usd), sum(reserved_tokens), sum(reserved_usd)
    FROM changes GROUP BY scope, period, starts_at ORDER BY scope, period, starts_at
    ON CONFLICT (user_id, scope, period, starts_at) DO UPDATE
    SET tokens = c.tokens + excluded.tokens, cost_usd = c.cost_usd + excluded.cost_usd,
        reserved_tokens = greatest(c.reserved_tokens + excluded.reserved_tokens, 0),
        reserved_usd = greatest(c.reserved_usd + excluded.reserved_usd, 0);
END;

-- Writes a batch, [{"user_id": …, "operations": […], "model_calls": […]}, …], each user's rows as that user: one statement, one
-- transaction, one round trip.
CREATE FUNCTION auralink.record_outcomes(entries json) RETURNS void
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
    END LOOP;
END $$;

GRANT CREATE ON SCHEMA auralink TO auralink_system;
ALTER FUNCTION auralink.model_health(integer) OWNER TO auralink_system;
REVOKE CREATE ON SCHEMA auralink FROM auralink_system;
REVOKE ALL ON FUNCTION auralink.announce_user_change(), auralink.model_health(integer), auralink.period_start(text, timestamptz),
    auralink.settle_abandoned_reservations(), auralink.release_reservation(uuid),
    auralink.reserve_usage(uuid, text[], bigint, numeric, interval),
    auralink.insert_operations(uuid, json), auralink.insert_model_calls(uuid, json), auralink.record_outcomes(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.model_health(integer), auralink.period_start(text, timestamptz),
    auralink.settle_abandoned_reservations(), auralink.release_reservation(uuid),
    auralink.reserve_usage(uuid, text[], bigint, numeric, interval),
    auralink.insert_operations(uuid, json), auralink.insert_model_calls(uuid, json), auralink.record_outcomes(json)
    TO auralink_service;
