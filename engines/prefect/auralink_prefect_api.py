"""The Prefect API of the flows that run here: one on a loopback port for all of an engine's runs, started before the first.

A flow of Prefect needs an API for its states. One for each run would take 14 s of processor time and 210 MB a run; this one takes that
once. Nobody looks at it: what a run does is told to our own service. It has a password of its own, keeps its database in the folder
of the engine's parent, and forgets what is older than two hours. With `PREFECT_API_URL` set nothing is started: flows run there.

A module outside the package: Prefect has to be set up before it is imported.
"""

import asyncio
import os
import secrets
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

import certifi

Ready = Callable[[Mapping[str, str], Sequence[str]], None]
HERE = "AURALINK_PREFECT_HERE"
"""The variable by which runs know that the API is theirs alone."""
SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "7200",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}


def serve(home: Path, ready: Ready) -> None:
    """Serves until killed; `ready` is told how runs reach it. Returns at once when there is a server elsewhere."""
    if elsewhere := os.environ.get("PREFECT_API_URL"):
        ready({}, [elsewhere])
        return
    database, password = home / "prefect.db", f"run:{secrets.token_urlsafe(16)}"
    template = Path(sys.prefix) / f"prefect-{version('prefect')}.db"
    with suppress(OSError):
        shutil.copyfile(template, database)
    os.environ |= SERVER | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_API_DATABASE_MIGRATE_ON_START": str(not database.exists()),
        "PREFECT_SERVER_API_AUTH_STRING": password,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"

        def started() -> None:
            if not template.exists():
                _keep(database, template)
            few = str(_few_certificates(home))
            ready(
                {HERE: "1", "PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": password, "PREFECT_API_SSL_CERT_FILE": few}, [url]
            )

        asyncio.run(_serve(listener, started))


async def _serve(listener: socket.socket, started: Callable[[], None]) -> None:
    # imported here: with a server elsewhere none of it is needed, and the settings above have to be there before
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    if server.started:
        started()
    await task


def _few_certificates(home: Path) -> Path:
    """A file with one certificate. Prefect's clients read all that there are, twice a flow, also for an address without TLS."""
    end = "-----END CERTIFICATE-----"
    file = home / "one.pem"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end + "\n", encoding="utf-8")
    return file


def _keep(database: Path, template: Path) -> None:
    """Keeps the empty database for the next start: making it takes longer than everything else together."""
    unfinished = template.with_suffix(f".{os.getpid()}")
    with suppress(OSError, sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(unfinished),))
        unfinished.replace(template)
