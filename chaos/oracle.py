"""What must be true when everything has come to rest (issue "kill test"), counted from the database and the sink's own file."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

ENDED = {"succeeded", "failed", "cancelled"}


@dataclass
class Verdict:
    """Counts; all of `broken` must be 0."""

    broken: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not any(self.broken.values())

    def __str__(self) -> str:
        return "\n".join(f"  {name:<44}{count:>6}" for name, count in (*self.seen.items(), *self.broken.items()))


def effects(path: Path) -> list[dict[str, Any]]:
    """Every call that reached the sink; a line that was cut off by a kill is not one."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def judge(superuser: str, sink: Path, accepted: Mapping[str, UUID]) -> Verdict:
    """`accepted` are the runs that were acknowledged, by their line."""
    verdict, calls = Verdict(), effects(sink)
    with psycopg.connect(superuser, row_factory=dict_row) as session:

        def query(text: str) -> list[dict[str, Any]]:
            return session.execute(text.encode()).fetchall()

        runs = {run["id"]: run for run in query("SELECT * FROM auralink.runs")}
        journal = query("SELECT *, extract(epoch FROM finished_at)::float AS ended FROM auralink.run_journal")
        events = query("SELECT * FROM auralink.run_events ORDER BY run_id, seq")
        models = query("SELECT run_id FROM auralink.llm_performance_metrics WHERE success")
        audited = query("SELECT tool FROM auralink.mcp_operation_logs WHERE operation = 'tools/call'")
    made = {f"{row['run_id']}:{row['seq']}": row for row in journal}
    had_effect = Counter((call["line"], call["step"]) for call in calls if call["effect"])
    verdict.broken = {
        "lost (acknowledged and not there)": sum(run_id not in runs for run_id in accepted.values()),
        "stuck (not ended)": sum(run["status"] not in ENDED for run in runs.values()),
        "failed though nothing was wrong": sum(run["status"] == "failed" for run in runs.values()),
        "ended more than once, or told after the end": sum(map(_ends_badly, _by_run(events).values())),
        "events with a gap": sum(map(_has_gap, _by_run(events).values())),
        "journalled steps made again": sum(_made_again(call, made) for call in calls),
        "effects that happened twice": sum(count - 1 for count in had_effect.values()),
        "effects that are missing": sum(_missing(run, had_effect) for run in runs.values()),
        "model calls counted twice or not at all": _difference(models, journal),
        "effects without a row in the operation log": _unaudited(calls, audited),
    }
    verdict.seen = {
        "runs": len(runs),
        "attempts": sum(run["attempt"] for run in runs.values()),
        "steps made": len(calls) + len(models),
        "steps replayed": sum(run["replayed"] for run in runs.values()),
    }
    return verdict


def _by_run(rows: list[dict[str, Any]]) -> dict[UUID, list[dict[str, Any]]]:
    grouped: dict[UUID, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["run_id"], []).append(row)
    return grouped


def _ends_badly(events: list[dict[str, Any]]) -> bool:
    types = [event["type"] for event in events]
    return types.count("run.finished") > 1 or "run.finished" in types[:-1]


def _has_gap(events: list[dict[str, Any]]) -> bool:
    return [event["seq"] for event in events] != list(range(1, len(events) + 1))


def _made_again(call: Mapping[str, Any], made: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a call came to the sink after its answer was in the journal."""
    row = made.get(call["key"])
    return row is not None and row["ended"] is not None and call["at"] > row["ended"] + 0.001


def _missing(run: Mapping[str, Any], had_effect: Counter[tuple[str, int]]) -> int:
    if run["status"] != "succeeded":
        return 0
    return sum((run["input"]["line"], step) not in had_effect for step in (1, 3, 4))


def _difference(models: list[dict[str, Any]], journal: list[dict[str, Any]]) -> int:
    counted = Counter(row["run_id"] for row in models)
    kept = Counter(row["run_id"] for row in journal if row["kind"] == "llm" and row["status"] == "done")
    return sum(((counted - kept) + (kept - counted)).values())


def _unaudited(calls: list[dict[str, Any]], audited: list[dict[str, Any]]) -> int:
    rows = Counter(row["tool"] for row in audited)
    return sum((Counter(call["tool"] for call in calls if call["effect"]) - rows).values())
