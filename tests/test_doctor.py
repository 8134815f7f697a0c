"""What the doctor says of workers: whether one is there to take runs."""

import psycopg
import pytest

from auralink import doctor
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from tests.conftest import TestDatabase


async def _said(dsn: Secret) -> tuple[bool, str]:
    finding = await doctor._workers(Settings(_env_file=None, database_url=dsn))  # type: ignore[call-arg]  # of pydantic-settings
    return finding.ok, finding.state


async def test_a_worker_counts_while_it_gives_signs_of_life(test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(doctor, "find_places", lambda _root: [_Place() for _ in installed])
    assert await _said(test_database.service) == (True, "none is running, and no engine is installed that it could use")
    installed.append("one")
    ok, state = await _said(test_database.service)
    assert not ok
    assert "runs stay queued; `auralink worker`" in state
    with psycopg.connect(test_database.superuser.reveal(), autocommit=True) as session:
        session.execute(
            "INSERT INTO procrastinate.procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '1 h')"
        )
    assert await _said(test_database.service) == (True, "1 running")


class _Place:
    def state(self) -> str:
        return "installed"
