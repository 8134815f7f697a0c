"""Environments of engines, made from locks without an index."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auralink.cli import app
from auralink.runs.engine_install import InstallationFailed, install
from auralink.runs.engine_manifest import Place, find_places

LOCK = "nothing-of-this-name==1.0 --hash=sha256:" + "0" * 64 + "\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An engine with an empty lock; neither uv nor pip reaches an index."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "requirements.txt").write_text("")
    (folder / "engine.toml").write_text(
        'name = "small"\ntitle = "Small"\nframework = "none"\nmodule = "small_engine"\nkinds = ["team"]\n'
    )
    (folder / "small_engine.py").write_text("async def run(job, emit):\n    return 1\n")
    return next(find_places(tmp_path))


def test_an_environment_is_made_once_and_again_when_the_lock_has_changed(place: Place) -> None:
    said: list[str] = []
    assert place.state() == "missing"
    assert install(place, said.append)
    assert place.state() == "installed"
    assert said == ["small: making the environment", "small: installing 0 packages", "small: installed"]
    assert not install(place, said.append)
    place.lock.write_text("# newer\n")
    assert place.state() == "outdated"
    assert install(place, said.append)
    done = subprocess.run([place.python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == place.environment


def test_an_installation_that_fails_says_why_and_does_not_count(place: Place) -> None:
    place.lock.write_text(LOCK)
    with pytest.raises(InstallationFailed, match=r"(?s)said:.*nothing-of-this-name"):
        install(place, lambda _: None)
    assert place.state() == "missing"


def test_the_command_line_lists_installs_and_checks(place: Place) -> None:
    runner, root = CliRunner(), ["--root", str(place.folder.parent)]
    assert "missing" in runner.invoke(app, ["engines", "list", *root]).output
    checked = runner.invoke(app, ["engines", "check", *root])
    assert checked.exit_code == 0
    assert "auralink engines install small" in checked.output
    assert "small: installed" in runner.invoke(app, ["engines", "install", "small", *root]).output
    assert "small: is installed" in runner.invoke(app, ["engines", "install", *root]).output
    checked = runner.invoke(app, ["engines", "check", "small", *root])
    assert checked.exit_code == 0, checked.output
    assert "ok   small: Small unknown, warm after" in checked.output
    (place.folder / "small_engine.py").write_text("import missing_thing\n")
    checked = runner.invoke(app, ["engines", "check", *root])
    assert checked.exit_code == 1
    assert "missing_thing" in checked.output
