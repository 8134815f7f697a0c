"""Notes what Python code of an engine connects to or looks up, in the parent and in every run; the first module that is imported.

It hears Python's sockets, also those of `asyncio`. What an extension in C or Rust does by itself it does not hear.
"""

import os
import sys
from typing import Any

_ADDRESSED = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOKED_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    target = args[1] if event in _ADDRESSED else args[:2] if event in _LOOKED_UP else None
    if target is not None:
        os.write(_file, f"{event} {target!r}\n".encode())


sys.addaudithook(_hear)
