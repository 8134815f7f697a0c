"""A handful of the official conformance suite's scenarios; `make conformance` runs all of them."""

from pathlib import Path

import pytest

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from conformance import fixture, suite
from conformance.gateway import with_fixtures
from conformance.serving import serving
from tests.node import unavailable
from tests.service import running_service

SCENARIOS = {
    "2025-11-25": ("server-session-lifecycle", "tools-call-elicitation", "tools-call-with-progress"),
    "2026-07-28": ("server-stateless", "input-required-result-multi-round", "http-custom-header-server-validation"),
}


@pytest.mark.needs_node
@pytest.mark.promise("P-ERA")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("revision", SCENARIOS)
async def test_what_the_suite_checks_passes_through_the_gateway(
    dsn: Secret, tmp_path: Path, ring: KeyRing, revision: str
) -> None:
    try:
        suite.install()
    except suite.SuiteUnavailable as reason:
        unavailable(str(reason))
    async with serving(fixture.build_app()) as url, running_service(dsn, tmp_path, ring) as service:
        async with with_fixtures(service, {"fixture": f"{url}/mcp"}) as mcp:
            checks = await suite.server_checks(f"{mcp}/fixture", revision, SCENARIOS[revision])
    assert len({check.scenario for check in checks}) == len(SCENARIOS[revision])
    assert [check for check in checks if check.status not in ("SUCCESS", "SKIPPED")] == []
