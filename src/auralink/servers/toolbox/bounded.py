"""The inside of a bounded child process: limits first, then one JSON request on stdin, one JSON answer on stdout.

`children.py` is the outside. This file keeps to the standard library, since every call pays for its imports.
"""

import json
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any

from auralink.core.errors import AuralinkError

OUT_OF_MEMORY = 77
MAX_REQUEST_BYTES = 16 * 1024 * 1024


def limit(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Bounds this process for good: address space, processor time, no core dump, and no byte written to any file.

    It goes first, before a large import or a byte of input.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers the one request: `{"answer": …}`, `{"refused": why}`, or `{"crash": where}` without the text of the exception,
    which may quote the input.
    """
    try:
        reply: dict[str, Any] = {"answer": handle(json.loads(sys.stdin.buffer.read(MAX_REQUEST_BYTES)))}
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except AuralinkError as refusal:
        reply = {"refused": refusal.message}
    except Exception as crash:  # noqa: BLE001 - the edge of the process: the parent logs where it happened
        frames = traceback.extract_tb(crash.__traceback__)[-3:]
        reply = {"crash": f"{type(crash).__name__} at " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))}
    sys.stdout.write(json.dumps(reply))
