"""SQL of keys, preferences and measurements."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection

KEYS = "SELECT id, provider, base_url, encrypted_key, last4, created_at FROM auralink.user_llm_keys ORDER BY provider"

PUT_KEY = """
INSERT INTO auralink.user_llm_keys (id, user_id, provider, base_url, encrypted_key, last4)
VALUES (%(id)s, auralink.current_user_id(), %(provider)s, %(base_url)s, %(encrypted_key)s, %(last4)s)
ON CONFLICT (user_id, provider) DO UPDATE
SET id = EXCLUDED.id, base_url = EXCLUDED.base_url, encrypted_key = EXCLUDED.encrypted_key, last4 = EXCLUDED.last4,
    created_at = now(), updated_at = now()
RETURNING provider, last4, base_url, created_at
"""

PREFERENCES = """
SELECT id AS preference_id, model_id, priority, task_type, is_default, preferred, usage_limit_tokens, cost_limit_usd, created_at
FROM auralink.user_llm_preferences
"""

PUT_PREFERENCE = """
INSERT INTO auralink.user_llm_preferences (id, user_id, model_id, priority, task_type, usage_limit_tokens, cost_limit_usd)
VALUES (%(id)s, auralink.current_user_id(), %(model_id)s, %(priority)s, %(task_type)s, %(usage_limit_tokens)s, %(cost_limit_usd)s)
ON CONFLICT (user_id, model_id, task_type) DO UPDATE
SET preferred = true, priority = EXCLUDED.priority, usage_limit_tokens = EXCLUDED.usage_limit_tokens,
    cost_limit_usd = EXCLUDED.cost_limit_usd
RETURNING id
"""

PUT_DEFAULT = """
INSERT INTO auralink.user_llm_preferences (id, user_id, model_id, is_default, preferred)
VALUES (%(id)s, auralink.current_user_id(), %(model_id)s, true, false)
ON CONFLICT (user_id, model_id, task_type) DO UPDATE SET is_default = true
RETURNING id
"""

FIGURES = """
SELECT model_id, count(*) AS calls, count(*) FILTER (WHERE success) AS successes,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) FILTER (WHERE success) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) FILTER (WHERE success) AS p95_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY first_token_ms) FILTER (WHERE success) AS first_token_p50_ms,
       sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
       avg(cost_usd) FILTER (WHERE success) AS cost_per_call_usd, avg(quality) AS quality, count(quality) AS rated
FROM auralink.llm_performance_metrics
WHERE at >= now() - make_interval(days => %(days)s) AND model_id IS NOT NULL
  AND (%(models)s::text[] IS NULL OR model_id = ANY (%(models)s)) AND (%(task_type)s::text IS NULL OR task_type = %(task_type)s)
GROUP BY model_id ORDER BY calls DESC, model_id
"""

COSTS = """
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, model_id, count(*) AS calls,
       coalesce(sum(prompt_tokens + completion_tokens), 0) AS tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
       count(*) FILTER (WHERE cost_usd IS NULL AND prompt_tokens + completion_tokens > 0) AS unpriced_calls
FROM auralink.llm_performance_metrics
WHERE at >= now() - make_interval(days => %s)
GROUP BY GROUPING SETS ((1, 2), ())
ORDER BY 1 DESC NULLS FIRST, cost_usd DESC
"""

RATE = """
UPDATE auralink.llm_performance_metrics SET quality = %(quality)s, feedback = %(comment)s WHERE id = %(call_id)s
RETURNING id AS call_id, model_id, quality
"""


async def keys(connection: Connection) -> list[DictRow]:
    """The tenant's keys, sealed."""
    return await (await connection.execute(KEYS)).fetchall()


async def put_key(connection: Connection, row: Mapping[str, Any]) -> DictRow | None:
    """Stores a key; the one that was there for the provider goes, its id with it, since a sealed key is bound to that."""
    return await (await connection.execute(PUT_KEY, row)).fetchone()


async def delete_key(connection: Connection, provider: str) -> bool:
    """Deletes a key; whether there was one."""
    query = "DELETE FROM auralink.user_llm_keys WHERE provider = %s RETURNING id"
    return await (await connection.execute(query, [provider])).fetchone() is not None


async def preferences(connection: Connection) -> list[DictRow]:
    """The tenant's preferences, in the order in which they count."""
    query = PREFERENCES + "ORDER BY is_default DESC, priority DESC, created_at"
    return await (await connection.execute(query)).fetchall()


async def preference(connection: Connection, preference_id: UUID) -> DictRow | None:
    """One preference of the tenant."""
    return await (await connection.execute(PREFERENCES + "WHERE id = %s", [preference_id])).fetchone()


async def put_preference(connection: Connection, row: Mapping[str, Any]) -> UUID:
    """Stores a preference; the one for the same model and task goes."""
    return await _id(connection, PUT_PREFERENCE, row)


async def put_default(connection: Connection, row: Mapping[str, Any]) -> UUID:
    """Makes a model the one that a request without a model means."""
    await connection.execute("DELETE FROM auralink.user_llm_preferences WHERE is_default AND NOT preferred")
    await connection.execute("UPDATE auralink.user_llm_preferences SET is_default = false WHERE is_default")
    return await _id(connection, PUT_DEFAULT, row)


async def delete_preference(connection: Connection, preference_id: UUID) -> DictRow | None:
    """Deletes a preference, and returns its model; None if the tenant has none of that id."""
    query = "DELETE FROM auralink.user_llm_preferences WHERE id = %s RETURNING model_id"
    return await (await connection.execute(query, [preference_id])).fetchone()


async def figures(
    connection: Connection, *, days: int, models: Sequence[str] | None = None, task_type: str | None = None
) -> list[DictRow]:
    """How models did for the tenant; all of them, or those named."""
    values = {"days": days, "models": list(models) if models is not None else None, "task_type": task_type}
    return await (await connection.execute(FIGURES, values)).fetchall()


async def costs(connection: Connection, days: int) -> list[DictRow]:
    """What the tenant's calls cost by day and model; the first row, with `day` NULL, is the total."""
    return await (await connection.execute(COSTS, [days])).fetchall()


async def rate(connection: Connection, values: Mapping[str, Any]) -> DictRow | None:
    """Stores how good an answer was; None if the tenant has made no such call."""
    return await (await connection.execute(RATE, values)).fetchone()


async def health(connection: Connection, hours: int) -> list[DictRow]:
    """How each model did over all users."""
    return await (await connection.execute("SELECT * FROM auralink.model_health(%s)", [hours])).fetchall()


async def _id(connection: Connection, query: str, row: Mapping[str, Any]) -> UUID:
    found = await (await connection.execute(query, row)).fetchone()
    assert found is not None
    stored: UUID = found["id"]
    return stored
