"""`python -m auralink_engine NAME [--manifest FILE] [--homes FOLDER]`: what a worker starts; it speaks on stdin and stdout."""

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from auralink_engine.child import Outlet, load, perform, prepare
from auralink_engine.confine import TELEMETRY_OFF
from auralink_engine.job import Job
from auralink_engine.lines import encode
from auralink_engine.manifest import read_manifest
from auralink_engine.parent import Parent

ENGINES = Path(__file__).resolve().parents[2]


def main() -> None:
    """Runs an engine's parent, or for the parent itself one warmed process of its pool (`--single`) or its helper (`--helper`)."""
    parser = argparse.ArgumentParser(prog="auralink_engine")
    parser.add_argument("name")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--homes", type=Path)
    os.environ.update(TELEMETRY_OFF)
    if sys.argv[1:2] == ["--single"]:
        run_single(int(sys.argv[2]), Path(sys.argv[3]))
    if sys.argv[1:2] == ["--helper"]:
        help_runs(int(sys.argv[2]), Path(sys.argv[3]))
    given = parser.parse_args()
    path = given.manifest or ENGINES / given.name / "engine.toml"
    homes = given.homes or Path(tempfile.mkdtemp(prefix="auralink-engine-"))
    try:
        Parent(read_manifest(path), path, homes).serve()
    finally:
        shutil.rmtree(homes, ignore_errors=True)


def run_single(lines: int, path: Path) -> NoReturn:
    """Warms up, waits for a job on stdin, does it, ends."""
    manifest = read_manifest(path)
    os.environ.update(manifest.environment)
    os.set_inheritable(lines, False)
    module = load(manifest)
    os.write(lines, encode({"op": "ready"}))
    order = sys.stdin.buffer.readline()
    if not order:
        os._exit(0)  # the parent has no use for this process any more
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    job = Job.from_message(json.loads(order))
    prepare(job, Path.cwd())
    perform(module, job, Outlet(lines))


def help_runs(lines: int, path: Path) -> NoReturn:
    """Serves all runs of an engine, if it has something that they share; `ready` tells the parent what they need for it."""
    manifest = read_manifest(path)
    os.environ.update(manifest.environment)
    os.set_inheritable(lines, False)
    assert manifest.helper is not None

    def ready(environment: Mapping[str, str], ways: Sequence[str]) -> None:
        os.write(lines, encode({"op": "ready", "environment": dict(environment), "ways": list(ways)}))

    importlib.import_module(manifest.helper).serve(Path.cwd(), ready)
    os._exit(0)


if __name__ == "__main__":
    main()
