"""What all runs of an engine share: a helper process, started before anything else, that names what runs need."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from auralink.runs.engines import Engines, EngineUnavailable, Failure, Result
from tests.conftest import eventually
from tests.runs.test_engines import Heard, a_start

HELPER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given):
        pass


def serve(home, ready):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        ready({"HELPED_AT": url, "HELPED_IN": str(home)}, [url])
        server.serve_forever()
"""
IDLE = 'def serve(home, ready):\n    ready({"HELPED_AT": "elsewhere"}, [])\n'
BROKEN = 'def serve(home, ready):\n    raise OSError("no room for a database")\n'
ENGINE = """
import os, urllib.request

warmed_with = []


def warm():
    warmed_with.append(os.environ.get("HELPED_AT"))


async def run(job, emit):
    url = os.environ["HELPED_AT"]
    if job.input.get("wait"):
        import asyncio
        emit("state", at=url)
        await asyncio.Event().wait()
    status = None
    if url.startswith("http"):
        with urllib.request.urlopen(url, timeout=5) as answer:
            status = answer.status
    return {"status": status, "warmed": warmed_with == [url], "home": os.environ.get("HELPED_IN", "")}
"""


@pytest.fixture(params=["fork", "pool"])
async def helped(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engines]:
    """An engine with a helper."""
    engines = engines_with(tmp_path, HELPER, request.param)
    yield engines
    await engines.close()


def engines_with(root: Path, helper: str, mode: str = "fork") -> Engines:
    folder = root / "helped"
    folder.mkdir()
    manifest = ['name = "helped"', 'title = "Helped"', 'framework = "none"', 'module = "helped_engine"', 'kinds = ["flow"]']
    (folder / "engine.toml").write_text("\n".join([*manifest, f'mode = "{mode}"', 'helper = "its_helper"']))
    (folder / "requirements.txt").touch()
    (folder / "its_helper.py").write_text(helper)
    (folder / "helped_engine.py").write_text(ENGINE)
    return Engines(root, Path(sys.executable))


async def test_runs_reach_the_helper_that_was_there_before_the_warming(helped: Engines) -> None:
    # where runs have networks of their own, the way to the helper is in them
    outcomes = await asyncio.gather(*(helped.execute(a_start("help", engine="helped"), Heard()) for _ in range(3)))
    for outcome in outcomes:
        assert isinstance(outcome, Result), outcome
        assert (outcome.output["status"], outcome.output["warmed"]) == (200, True)
    assert len({outcome.output["home"] for outcome in outcomes if isinstance(outcome, Result)}) == 1


async def test_a_helper_that_has_nothing_to_serve_ends(tmp_path: Path) -> None:
    engines = engines_with(tmp_path, IDLE)
    for _ in range(2):
        outcome = await engines.execute(a_start("help", engine="helped"), Heard())
        assert isinstance(outcome, Result), outcome
        assert outcome.output == {"status": None, "warmed": True, "home": ""}
    await engines.close()


async def test_a_helper_that_cannot_start_says_why(tmp_path: Path) -> None:
    engines = engines_with(tmp_path, BROKEN)
    with pytest.raises(EngineUnavailable, match="no room for a database"):
        await engines.execute(a_start("help", engine="helped"), Heard())
    await engines.close()


async def test_an_engine_whose_helper_dies_comes_back_with_another(helped: Engines) -> None:
    heard = Heard()
    task = asyncio.create_task(helped.execute(a_start("help", engine="helped", wait=True), heard))
    first = (await heard.first())["data"]["at"]
    (parent,) = (child for child in psutil.Process().children() if "helped" in child.cmdline())
    (helper,) = (child for child in parent.children() if "--helper" in child.cmdline())
    helper.kill()
    outcome = await task
    assert isinstance(outcome, Failure)
    assert outcome.lost
    await eventually(lambda: not parent.is_running())
    again = await helped.execute(a_start("help", engine="helped"), Heard())
    assert isinstance(again, Result)
    assert first.startswith("http")


async def test_the_worker_passes_on_what_the_manifest_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPED_AT_FIRST", "named")
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "not named")
    reading = 'import os\ndef serve(home, ready):\n    ready({"HELPED_AT": str("SECRET_OF_THE_WORKER" in os.environ), '
    reading += '"HELPED_IN": os.environ.get("HELPED_AT_FIRST", "")}, [])\n'
    engines = engines_with(tmp_path, reading)
    manifest = tmp_path / "helped" / "engine.toml"
    manifest.write_text(manifest.read_text() + '\npassed_on = ["HELPED_AT_*"]\n')
    outcome = await engines.execute(a_start("help", engine="helped"), Heard())
    assert isinstance(outcome, Result), outcome
    assert outcome.output["home"] == "named"
    await engines.close()
