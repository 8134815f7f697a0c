"""What every engine shares with the worker: JSON lines, one process per run. No dependencies, and nothing of the service.

An engine is a folder with an `engine.toml` whose `module` has

    def warm() -> None                       # optional: what makes the first run quick; once, before anything is forked
    async def run(job: Job, emit: Emit)      # or a plain function; returns the run's output (JSON)

`run` works in a process of its own. It raises `Lost` when a gateway cannot be reached: the attempt is over then, not the run.
Any other exception is the run's failure.
"""

from auralink_engine.job import Emit, Job, Lost

PROTOCOL = 1

__all__ = ["PROTOCOL", "Emit", "Job", "Lost"]
