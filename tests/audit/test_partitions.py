"""The operation log's months: made before they are needed, protected like the log itself, and never in the way of serving."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.service import API, running_service, unique

PARTITIONS = """SELECT c.relname::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
    WHERE inhparent = 'auralink.mcp_operation_logs'::regclass AND c.relname <> 'mcp_operation_logs_default' ORDER BY 1"""


def sql(database: TestDatabase, statement: str) -> list[str]:
    with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
        cursor = session.execute(statement.encode())
        return [row[0] for row in cursor.fetchall()] if cursor.description else []


def drop_partitions(database: TestDatabase) -> list[str]:
    names = sql(database, PARTITIONS)
    for name in names:
        sql(database, f"DROP TABLE auralink.{name}")
    return names


def test_there_is_a_partition_for_this_month_and_the_next_two(test_database: TestDatabase) -> None:
    names = sql(test_database, PARTITIONS)
    assert len(names) == 3
    assert names[0] == f"mcp_operation_logs_{datetime.now(UTC):%Y_%m}"
    assert sql(test_database, "SELECT auralink.ensure_log_partitions()") == [0]  # type: ignore[comparison-overlap]


@pytest.mark.promise("P-RLS")
def test_the_service_may_make_partitions_and_they_are_protected(test_database: TestDatabase) -> None:
    names = drop_partitions(test_database)
    with psycopg.connect(test_database.service.reveal(), autocommit=True) as session:
        assert session.execute("SELECT auralink.ensure_log_partitions()").fetchone() == (3,)
    assert sql(test_database, PARTITIONS) == names
    open_ones = "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r' AND NOT (relrowsecurity AND relforcerowsecurity)"
    assert sql(test_database, open_ones) == []


async def test_the_months_partition_is_there_before_the_first_record(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    names = drop_partitions(test_database)
    async with running_service(test_database.service, tmp_path, ring) as service, service.client(unique()) as client:
        await client.post(f"{API}/mcp/tools/none__tool/call", json={})
    assert sql(test_database, f"SELECT outcome FROM auralink.{names[0]}") == ["connection_not_found"]
    assert sql(test_database, "SELECT outcome FROM auralink.mcp_operation_logs_default") == []


async def test_a_record_that_lies_in_a_months_way_stops_neither_the_service_nor_other_duties(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    drop_partitions(test_database)
    row = f"'{uuid4()}', '{uuid4()}', now(), 'tools/call', 'ok', 1, 'rest'"
    sql(
        test_database,
        f"INSERT INTO auralink.mcp_operation_logs (id, user_id, at, operation, outcome, duration_ms, source) VALUES ({row})",
    )
    key = f"'{uuid4()}', 'key', '\\x00', '{uuid4()}', now(), now() - interval '25 hours'"
    sql(
        test_database,
        f"INSERT INTO auralink.idempotency_keys (user_id, key, request_hash, owner, lease_until, created_at) VALUES ({key})",
    )
    with capture_logs() as logged:
        async with running_service(test_database.service, tmp_path, ring) as service, service.client(unique()) as client:
            assert (await client.post(f"{API}/mcp/tools/none__tool/call", json={})).status_code == 404
    assert [entry["duty"] for entry in logged if "housekeeping" in entry["event"]] == ["ensure_log_partitions"]
    assert len(sql(test_database, "SELECT id FROM auralink.mcp_operation_logs")) == 2
    assert sql(test_database, "SELECT key FROM auralink.idempotency_keys") == []
