"""Figures of all users' runs for the metrics, read from the database when somebody looks."""

from auralink.core import telemetry
from auralink.core.db import Database
from auralink.runs import store
from auralink.runs.engine_manifest import default_root, find_places
from auralink.runs.schemas import TERMINAL

WORDS = {"team": "conversations", "flow": "flows"}
"""What runs of a kind are called where they are counted for themselves."""


async def measure(db: Database) -> None:
    """Sets the gauges of the queue and the counts of what has ended."""
    async with db.system() as connection:
        rows = await store.statistics(connection)
    manifests = [place.manifest for place in find_places(default_root())]
    telemetry.finished_runs.words = {m.name: word for m in manifests for kind, word in WORDS.items() if kind in m.kinds}
    for gauge in (telemetry.run_queue, telemetry.run_queue_age, telemetry.runs_by_status):
        gauge.clear()
    telemetry.finished_runs.counts = {(r["engine"], r["status"]): r["runs"] for r in rows if r["status"] in TERMINAL}
    for row in rows:
        if row["status"] == "queued":
            telemetry.run_queue.labels(row["engine"]).set(row["runs"])
            telemetry.run_queue_age.labels(row["engine"]).set(row["oldest_seconds"])
        elif row["status"] not in TERMINAL:
            telemetry.runs_by_status.labels(row["engine"], row["status"]).set(row["runs"])
