"""SQL of the catalogue. Its two tables are shared by all tenants."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Literal

from psycopg.types.json import Jsonb

from auralink.core.db import Connection
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.records import model_of, record_of

Source = Literal["package", "sync", "config"]
FACTS = (
    "provider", "name", "aliases", "title", "tier", "capabilities", "context_window", "max_output", "input_usd", "output_usd",
    "cached_input_usd", "cache_write_usd", "long_context", "scheduled", "deprecated", "source", "as_of",
)  # fmt: skip
_NEW = ", ".join(f"EXCLUDED.{column}" for column in FACTS)
_OLD = ", ".join(f"m.{column}" for column in FACTS)
UPSERT_MODEL = f"""
INSERT INTO auralink.llm_models AS m (model_id, {", ".join(FACTS)})
VALUES (%(model_id)s, {", ".join(f"%({column})s" for column in FACTS)})
ON CONFLICT (model_id) DO UPDATE SET ({", ".join(FACTS)}, enabled, updated_at) = ({_NEW}, true, now())
WHERE ({_OLD}, m.enabled) IS DISTINCT FROM ({_NEW}, true)
"""
UNLESS_NEWER = " AND (m.source <> 'sync' OR m.as_of < EXCLUDED.as_of)"
"""What was synchronised is younger than what the package brings along, as a rule."""
UPSERT_PROVIDER = """
INSERT INTO auralink.llm_providers AS p (provider, title, wire_format, base_url, self_hosted)
VALUES (%(provider)s, %(title)s, %(wire_format)s, %(base_url)s, %(self_hosted)s)
ON CONFLICT (provider) DO UPDATE SET (title, wire_format, base_url, self_hosted, updated_at)
    = (EXCLUDED.title, EXCLUDED.wire_format, EXCLUDED.base_url, EXCLUDED.self_hosted, now())
WHERE (p.title, p.wire_format, p.base_url, p.self_hosted)
    IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.wire_format, EXCLUDED.base_url, EXCLUDED.self_hosted)
"""
DISABLE_UNCONFIGURED = """
UPDATE auralink.llm_models SET enabled = false, updated_at = now()
WHERE source = 'config' AND enabled AND NOT model_id = ANY(%s)
"""


async def put_providers(connection: Connection, providers: Iterable[dict[str, Any]]) -> None:
    """Writes who offers models. In the order of their names, as all that follow: two processes that start at once wait for each
    other instead of for ever."""
    rows = sorted(providers, key=lambda row: str(row["provider"]))
    await connection.cursor().executemany(UPSERT_PROVIDER, rows)


async def put_models(
    connection: Connection, models: Iterable[Model], source: Source, as_of: date, *, unless_newer: bool = False
) -> None:
    """Writes models; what has not changed is left alone. `unless_newer`: so is what was synchronised since."""
    rows = [_row(model, source, as_of) for model in sorted(models, key=lambda model: model.model_id)]
    if rows:
        await connection.cursor().executemany(UPSERT_MODEL + (UNLESS_NEWER if unless_newer else ""), rows)


async def disable_unconfigured(connection: Connection, model_ids: Sequence[str]) -> None:
    """Switches off the operator's models that the configuration no longer has."""
    await connection.execute(DISABLE_UNCONFIGURED, [list(model_ids)])


async def models(connection: Connection, *, configured: bool = True) -> list[Model]:
    """Every model that is enabled, with the prices that were written; with `configured` those of the configuration too."""
    query = "SELECT * FROM auralink.llm_models WHERE enabled AND (%s OR source <> 'config') ORDER BY model_id"
    rows = await (await connection.execute(query, [configured])).fetchall()
    return [model_of(row) for row in rows]


def _row(model: Model, source: Source, as_of: date) -> dict[str, Any]:
    record = record_of(model)
    return {
        **record,
        "provider": model.provider,
        "name": model.name,
        "long_context": None if record["long_context"] is None else Jsonb(record["long_context"]),
        "scheduled": Jsonb(record["scheduled"]),
        "source": source,
        "as_of": as_of,
    }
