-- How each model did lately: every user counts as much as any other, so that one whose own key or address fails, or who calls all
-- day, does not decide for all.
CREATE OR REPLACE FUNCTION auralink.model_health(hours integer)
    RETURNS TABLE (model_id text, calls bigint, succeeded bigint, p50_ms double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    WITH of_users AS (
        SELECT m.model_id, m.user_id, count(*) AS calls, avg(m.success::integer) AS share,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY m.latency_ms) FILTER (WHERE m.success) AS p50_ms
        FROM auralink.llm_performance_metrics m
        WHERE m.at >= now() - make_interval(hours => hours) AND m.model_id IS NOT NULL
          AND (m.success OR m.error_class IN ('rate_limited', 'overloaded', 'server_error', 'timeout', 'unreachable', 'broken_off'))
        GROUP BY m.model_id, m.user_id
    )
    SELECT u.model_id, sum(u.calls)::bigint, round(sum(u.calls) * avg(u.share))::bigint,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY u.p50_ms)
    FROM of_users u GROUP BY u.model_id;
END;
