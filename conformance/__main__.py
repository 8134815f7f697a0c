"""`make conformance`: both columns for each revision, the endpoint for all servers, our upstream client, and the exceptions.

Ends with status 1 if a check that passes at the fixture fails through the gateway without a reason that is listed.
"""

import argparse
import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from auralink.core import embedded_postgres as embedded
from auralink.core.migrate import migrate
from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing, generate_master_key
from conformance import client, fixture, suite
from conformance.exceptions import ALL_SERVERS_SCENARIOS, EXCEPTIONS, NOT_OFFERED
from conformance.gateway import with_fixtures
from conformance.serving import as_old_as, serving
from conformance.suite import Check
from tests.service import running_service

REVISIONS = ("2025-11-25", "2026-07-28")
PASSED = "SUCCESS"


class Report:
    """Prints what was found, and remembers what nobody has explained."""

    def __init__(self) -> None:
        self.excepted: list[tuple[str, Check, str]] = []
        self.unexplained: list[tuple[str, Check]] = []

    def columns(self, revision: str, direct: Iterable[Check], through: Mapping[str, Iterable[Check]]) -> None:
        """Scenario by scenario: checks passed and made, directly and through the gateway to an upstream of each revision."""
        columns = [_by_scenario(direct), *(_by_scenario(checks) for checks in through.values())]
        titles = ("directly", *(f"to {upstream}" for upstream in through))
        print(f"\nclient of {revision:<42}" + "".join(f"{title:>16}" for title in titles))
        for scenario in sorted(columns[0]):
            print(f"  {scenario:<50}" + "".join(f"{_count(column[scenario]):>16}" for column in columns))
        everything = [[check for checks in column.values() for check in checks] for column in columns]
        print(f"  {'in all':<50}" + "".join(f"{_count(checks):>16}" for checks in everything))
        for upstream, found in zip(through, everything[1:], strict=True):
            self._compare(f"{revision} to {upstream}", everything[0], {check.key: check for check in found})

    def alone(self, title: str, checks: Sequence[Check]) -> None:
        """One column; whatever does not pass needs a reason."""
        print(f"\n{title}")
        for scenario, found in sorted(_by_scenario(checks).items()):
            print(f"  {scenario:<50}{_count(found):>10}")
        print(f"  {'in all':<50}{_count(checks):>10}")
        for check in checks:
            if check.status not in (PASSED, "SKIPPED"):
                self._note(title, check)

    def end(self) -> int:
        """The exceptions; the exit status."""
        print("\nExceptions:" if self.excepted else "\nNo exceptions.")
        for reason, checks in _by_reason(self.excepted).items():
            print(f"  {reason}")
            for where, check in checks:
                print(f"    {where}: {check.scenario}, {check.id} ({check.status})")
        for where, check in self.unexplained:
            print(f"UNEXPLAINED {where}: {check.scenario}, {check.id}, {check.name} ({check.status}): {check.error}")
        return 1 if self.unexplained else 0

    def _compare(self, revision: str, direct: Sequence[Check], through: dict[tuple[str, str, str, int], Check]) -> None:
        for check in direct:
            if check.status != PASSED:
                continue
            same = through.get(check.key) or Check(*check.key, status="MISSING")
            if same.status != PASSED:
                self._note(revision, same)

    def _note(self, where: str, check: Check) -> None:
        reason = EXCEPTIONS.get((check.scenario, check.id)) or EXCEPTIONS.get((check.scenario, "*"))
        if reason is None:
            self.unexplained.append((where, check))
        else:
            self.excepted.append((where, check, reason))


def _by_scenario(checks: Iterable[Check]) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        if not check.scenario.startswith(NOT_OFFERED):
            found[check.scenario].append(check)
    return found


def _by_reason(excepted: Iterable[tuple[str, Check, str]]) -> dict[str, list[tuple[str, Check]]]:
    found: dict[str, list[tuple[str, Check]]] = defaultdict(list)
    for where, check, reason in excepted:
        found[reason].append((where, check))
    return found


def _count(checks: Iterable[Check]) -> str:
    statuses = Counter(check.status for check in checks if check.status != "SKIPPED")
    return f"{statuses[PASSED]}/{statuses.total()}"


async def _run(dsn: Secret, data_dir: Path, scenarios: Sequence[str], report: Report) -> None:
    ring = KeyRing.parse(generate_master_key())
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(fixture.build_app()))
        old = await stack.enter_async_context(serving(as_old_as(fixture.build_app(), REVISIONS[0])))
        service = await stack.enter_async_context(running_service(dsn, data_dir, ring))
        target = await stack.enter_async_context(with_fixtures(service, {"modern": f"{url}/mcp", "legacy": f"{old}/mcp"}))
        for revision in REVISIONS:
            direct = await suite.server_checks(f"{url}/mcp", revision, scenarios)
            through = {"2026-07-28": await suite.server_checks(f"{target}/modern", revision, scenarios)}
            if revision == REVISIONS[0]:  # what a client of 2026-07-28 calls, only a server of that revision can do
                through[revision] = await suite.server_checks(f"{target}/legacy", revision, scenarios)
            report.columns(revision, direct, through)
        if scenarios:
            return
        for revision in REVISIONS:
            found = await suite.server_checks(target, revision, ALL_SERVERS_SCENARIOS[revision])
            report.alone(f"/mcp, all servers, client of {revision}", found)
    for revision in REVISIONS:
        report.alone(f"our upstream client, server of {revision}", await client.checks(revision))


def main() -> int:
    """Runs all of it, or the named scenarios of the two columns."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="only these server scenarios")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report, data_dir = Report(), Path(tempfile.mkdtemp(prefix="auralink-conformance-"))
    try:
        suite.install()
        cluster = embedded.start(data_dir)
        migrate(cluster.dsn("owner"))
        asyncio.run(_run(cluster.dsn("service"), data_dir / "service", chosen.scenarios, report))
    except suite.SuiteUnavailable as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    finally:
        embedded.stop(data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
