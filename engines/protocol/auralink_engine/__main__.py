"""`python -m auralink_engine NAME [--manifest FILE] [--homes FOLDER]`: what a worker starts; it speaks on stdin and stdout."""

import argparse
import json
import os
import shutil
import sys
import tempfile
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
    """Runs an engine's parent, or (`--single`, for the parent itself) one warmed process of its pool."""
    parser = argparse.ArgumentParser(prog="auralink_engine")
    parser.add_argument("name")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--homes", type=Path)
    os.environ.update(TELEMETRY_OFF)
    if sys.argv[1:2] == ["--single"]:
        run_single(int(sys.argv[2]), Path(sys.argv[3]))
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


if __name__ == "__main__":
    main()
