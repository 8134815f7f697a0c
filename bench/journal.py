"""What the journal adds to each step of a run: `python -m bench.journal` on the database of AURALINK_DATA_DIR prints ms, the median.

A run of an engine that nobody works for is taken by hand, and its steps are begun and done one after another, with an answer of a
hundred bytes and no call between.
"""

import asyncio
import statistics
import time
from dataclasses import replace
from uuid import uuid4

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.bootstrap import data_dir_of
from auralink.core import embedded_postgres as embedded
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.secret import Secret
from auralink.core.settings import load_settings
from auralink.journal.steps import Journal
from auralink.runs import store
from auralink.runs.service import Runs

NOBODY = "bench"
WARM, STEPS = 50, 500
ANSWER = {"content": [{"type": "text", "text": "x" * 100}]}


async def measure(dsn: Secret) -> float:
    """The median in ms."""
    db, audit = Database(dsn), GroupCommit(dsn)
    await db.open()
    await audit.open()
    journal = Journal(db)
    user = Principal(uuid4(), "bench", "bench", None, "user", frozenset())
    runs = Runs(db, Changes(dsn))
    run = await runs.accept(user, kind="workflow", definition_id=None, engine=NOBODY, definition={}, input={})
    async with db.system() as connection:
        row = await store.claim(connection, uuid4(), [NOBODY], lease=600, per_user=1)
    assert row is not None
    acting = replace(user, run=run.run_id, attempt=row["attempt"])
    times = []
    for number in range(WARM + STEPS):
        started = time.perf_counter()
        step = await journal.begin(acting, "tool", {"connection": "bench", "tool": "echo", "arguments": {"n": number}})
        await audit.commit(step.done(ANSWER))
        times.append(time.perf_counter() - started)
    await runs.cancel(user, run.run_id)
    await audit.close()
    await db.close()
    return statistics.median(times[WARM:]) * 1000


def main() -> None:
    """Attaches to the embedded database and measures."""
    cluster = embedded.find_cluster(data_dir_of(load_settings()))
    assert cluster is not None, "no database runs there"
    print(f"{asyncio.run(measure(cluster.dsn('service'))):.3f}")


if __name__ == "__main__":
    main()
