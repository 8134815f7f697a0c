"""The time to index a repository, and that of a question afterwards."""

import sysconfig
import time
from pathlib import Path

from rich.table import Table

from bench.service import Service

QUESTIONS = ("Where is a connection pool closed?", "How are retries counted?", "What parses the header?")


def measured(service: Service, repository: Path, files: int) -> Table:
    """The time to index a repository made of this environment's own libraries, and that of a question afterwards."""
    made = _copy_sources(repository, files)
    table = Table(title="the wiki", show_header=False)
    with service.http() as client:
        answer = client.post("/mcp/connect", json={"server_type": "deepwiki"}).raise_for_status()
        body = {"connection_id": answer.json()["connection_id"], "repo_name": str(repository)}
        started = time.perf_counter()
        client.post("/mcp/deepwiki/ask", json={**body, "question": QUESTIONS[0]}).raise_for_status()
        table.add_row(f"indexing {made:,} files, and the first answer", f"{time.perf_counter() - started:.2f} s")
        times = []
        for question in QUESTIONS * 5:
            started = time.perf_counter()
            client.post("/mcp/deepwiki/ask", json={**body, "question": question}).raise_for_status()
            times.append(time.perf_counter() - started)
    table.add_row(
        "a question afterwards, median and worst", f"{sorted(times)[len(times) // 2] * 1000:.1f} ms, {max(times) * 1000:.1f} ms"
    )
    return table


def _copy_sources(repository: Path, files: int) -> int:
    """Fills a folder with that many different files: the small sources first, and again under another last line if need be."""
    sources = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"), key=lambda path: (path.stat().st_size > 200_000, path))
    for number in range(files):
        source = sources[number % len(sources)]
        target = repository / f"part{number // 100:02}" / f"{number:05}_{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes() + b"\n# copy %d\n" % (number // len(sources)))
    return files
