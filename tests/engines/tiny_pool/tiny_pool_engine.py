"""The tiny engine as one that cannot be forked: importing it starts a thread."""

import sys
import threading
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tiny"))

import tiny_engine
from auralink_engine import Emit, Job

threading.Thread(target=threading.Event().wait, daemon=True).start()
warm = tiny_engine.warm


async def run(job: Job, emit: Emit) -> Any:
    return await tiny_engine.run(job, emit)
