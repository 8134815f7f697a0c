"""Mistakes that are made on purpose, to see that the oracle finds them. They change functions of the database."""

import psycopg

BUGS: dict[str, tuple[str, str, str]] = {
    # name: (function, what it says, what it says instead)
    "no-fencing": ("journal_begin", "r.attempt IS DISTINCT FROM of_attempt OR r.status NOT IN ('running', 'waiting')", "false"),
    "journal-after-call": ("journal_begin", "CASE WHEN step.sent THEN 'again' ELSE 'begin' END", "'begin'"),
    "no-recovery": (
        "reconcile_runs",
        "IF NOT pg_try_advisory_xact_lock(hashtext('auralink.reconcile_runs')) THEN",
        "IF true THEN",
    ),
}


def plant(owner_dsn: str, name: str) -> None:
    """Makes one of the mistakes."""
    function, right, wrong = BUGS[name]
    with psycopg.connect(owner_dsn, autocommit=True) as session:
        row = session.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", [function]).fetchone()
        assert row is not None
        assert right in row[0], f"{function} no longer says {right!r}"
        session.execute(row[0].replace(right, wrong).encode())
