"""A home for a while: CrewAI writes a key and a database into the home directory, as soon as it is imported."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auralink_engine.confine import home_environment


@contextmanager
def borrowed_home() -> Iterator[None]:
    """Whatever is written into the home directory meanwhile is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="crewai-") as home:
        changed = home_environment(Path(home))
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
