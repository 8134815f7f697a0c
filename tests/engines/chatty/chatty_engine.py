"""An engine that reaches out as frameworks do that tell their makers of their use: the test of silence must hear it.

While warming it looks a name up; in a run it connects with the C library, past Python's sockets.
"""

import contextlib
import ctypes
import os
import socket
import struct
from typing import Any

from auralink_engine import Emit, Job

NAME = "telemetry.invalid"
SOMEWHERE = ("192.0.2.1", 443)
SOMEWHERE_NEWER = ("2001:db8::1", 443)


def warm() -> None:
    with contextlib.suppress(OSError):
        socket.getaddrinfo(NAME, 443)


async def run(job: Job, emit: Emit) -> Any:
    libc = ctypes.CDLL(None)
    reached = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", SOMEWHERE[1], socket.inet_aton(SOMEWHERE[0]))
    libc.connect(reached.fileno(), address, len(address))
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as newer, contextlib.suppress(OSError):
        newer.connect(SOMEWHERE_NEWER)
    return {"pid": os.getpid()}
