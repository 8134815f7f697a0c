"""What a run's process may have: a home of its own, so much memory and CPU, no telemetry, and the same chance every time."""

import contextlib
import ctypes
import hashlib
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from auralink_engine.job import Job

PR_SET_PDEATHSIG = 1
MIB = 1024 * 1024
MAX_FILE_BYTES = 256 * MIB
MAX_OPEN_FILES = 1024

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGCHAIN_TRACING": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLED": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "SCARF_NO_ANALYTICS": "true",
    "POSTHOG_DISABLED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def home_environment(home: Path) -> dict[str, str]:
    """The variables by which programs find the place for their files."""
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
    }


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent dies (Linux; elsewhere the closed pipe does, at the next event)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit_resources(job: Job) -> None:
    """Sets the memory that may come on top of what the warmed process has, the CPU time, and sizes of files."""
    memory = _data_size() + job.memory_mb * MIB
    cpu = max(1, int(job.deadline - time.time()) + 1)
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
    }
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):  # a platform without this limit
            resource.setrlimit(which, (wanted, wanted))


def seed_chance(run: str) -> None:
    """Seeds the random generators from the run's id, so that every attempt of a run takes the same chances."""
    seed = int.from_bytes(hashlib.sha256(run.encode()).digest()[:4], "big")
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def settled_threads(patience: float = 2.0) -> int:
    """How many native threads stay: one that has been joined is still there for a moment."""
    until = time.monotonic() + patience
    while (count := count_threads()) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    return count


def count_threads() -> int:
    """How many native threads this process has; 1 where the kernel does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (only counted)
    except FileNotFoundError:
        return 1


def _data_size() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
