"""The kill test in its short form: every named point fires once, some of all processes are killed, and the oracle finds nothing.

`make chaos` takes longer, and chance takes part.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import scratched

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(240)


def chaos(*options: str) -> tuple[int, str]:
    """Runs the kill test; its exit status and what it says."""
    command = [sys.executable, "-m", "chaos", "--seed", "20260728", "--patience", "90", *options]
    with scratched() as place:
        environment = {**os.environ, "TMPDIR": str(place)}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=230, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.promise("P-ACCEPT")
@pytest.mark.promise("P-ONCE")
@pytest.mark.promise("P-FENCE")
def test_whatever_is_killed_no_run_is_lost_and_no_step_is_made_twice() -> None:
    status, said = chaos("--runs", "4", "--seconds", "3")
    assert status == 0, said
    assert said.count("fired: ") >= 5, said


def test_the_oracle_finds_a_mistake_that_is_made_on_purpose() -> None:
    options = ("--runs", "3", "--seconds", "0", "--points", "before-done", "--patience", "20", "--bug", "journal-after-call")
    status, said = chaos(*options)
    assert status == 1, said
    assert "DOES NOT HOLD" in said
