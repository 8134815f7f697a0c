-- Reservations lock all counters that they touch in one order, at once, before anything else: those that they reserve in, those that
-- they give back to and those of calls that died. Before, what was given back was locked in any order, and concurrent calls of one
-- user could wait for each other in a circle.

-- Locks, and makes where it is missing, every counter that a reservation in these scopes touches.
CREATE FUNCTION auralink.lock_counters(reservation uuid, scopes text[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    INSERT INTO auralink.usage_counters AS c (user_id, scope, period, starts_at)
    SELECT auralink.current_user_id(), p.scope, p.period, p.starts_at
    FROM (
        SELECT l.scope, l.period, auralink.period_start(l.period, now()) AS starts_at FROM auralink.usage_limits l
        WHERE l.user_id = auralink.current_user_id() AND l.scope = ANY (scopes) AND l.period <> 'minute'
        UNION
        SELECT p.scope, p.period, p.starts_at
        FROM auralink.usage_reservations r, json_to_recordset(r.places) AS p(scope text, period text, starts_at timestamptz)
        WHERE r.user_id = auralink.current_user_id() AND (r.id = reservation OR r.expires_at < now())
    ) p
    ORDER BY p.scope, p.period, p.starts_at
    ON CONFLICT (user_id, scope, period, starts_at) DO UPDATE SET tokens = c.tokens;
END;

-- As before, and it leaves alone what another transaction is settling.
GRANT UPDATE ON auralink.usage_reservations TO auralink_service;
CREATE OR REPLACE FUNCTION auralink.settle_abandoned_reservations() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    WITH gone AS (
        DELETE FROM auralink.usage_reservations
        WHERE id IN (SELECT r.id FROM auralink.usage_reservations r
                     WHERE r.user_id = auralink.current_user_id() AND r.expires_at < now() FOR UPDATE SKIP LOCKED)
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

-- As before, behind `lock_counters`.
CREATE OR REPLACE FUNCTION auralink.reserve_usage(
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
    PERFORM auralink.lock_counters(reservation, scopes);
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

REVOKE ALL ON FUNCTION auralink.lock_counters(uuid, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auralink.lock_counters(uuid, text[]) TO auralink_service;
