"""How well and how fast the built-in wiki finds things: `make bench-wiki REPOS="path …"`.

Quality: of each repository, N commits become questions (their messages) with known answers (the files they touched that
existed before), asked at the parent commit. Printed are recall@5 and MRR of the wiki beside plain BM25 over whole files and
`git grep`. Speed: time to index, then latency of questions, on the repositories and on a made one of 5,000 files.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tantivy

from auralink.servers.deepwiki.answers import INTERCEPT, SLOPE, best_coverage
from auralink.servers.deepwiki.index import WikiIndex
from auralink.servers.deepwiki.ranking import files_of, rank, read_query
from auralink.servers.deepwiki.snapshots import GitSnapshot
from auralink.servers.deepwiki.terms import content_words
from auralink.servers.deepwiki.wiki import Wiki
from auralink.servers.deepwiki.writing import update


@dataclass(frozen=True)
class Question:
    """A commit's message, the commit before it, and the files it went on to touch."""

    text: str
    parent: str
    files: frozenset[str]


@dataclass
class Score:
    """Sums over questions of what one method found."""

    recall: list[float] = field(default_factory=list)
    reciprocal: list[float] = field(default_factory=list)

    def add(self, found: Sequence[str], wanted: frozenset[str]) -> None:
        self.recall.append(len(wanted.intersection(found[:5])) / len(wanted))
        place = next((index for index, file in enumerate(found, 1) if file in wanted), 0)
        self.reciprocal.append(1 / place if place else 0.0)

    def means(self) -> tuple[float, float]:
        count = max(len(self.recall), 1)
        return sum(self.recall) / count, sum(self.reciprocal) / count


def git(repo: Path, *arguments: str) -> str:
    """The output of a git command, empty if it found nothing."""
    done = subprocess.run(["git", "-C", str(repo), *arguments], capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace")


def questions(repo: Path, count: int) -> list[Question]:
    """Commits spread evenly over the newest tenfold of `count`, oldest first: no merges, robots or mass changes."""
    ids = git(repo, "log", "--no-merges", "--format=%H", f"-n{count * 10}").split()
    picked = [question for commit in ids if (question := as_question(repo, commit))]
    step = max(len(picked) // count, 1)
    return picked[::step][:count][::-1]


def as_question(repo: Path, commit: str) -> Question | None:
    """None unless the commit has a parent, a message of words, and touched one to eight files that existed."""
    head, _, changes = git(repo, "show", "--format=%P%n%an%n%B%x00", "--name-status", "--no-renames", commit).partition("\0")
    parents, author, *message = head.split("\n")
    text = "\n".join(line for line in message if not re.match(r"(?i)(co-authored-by|signed-off-by|fixes:|closes:)", line)).strip()
    files = frozenset(line.split("\t")[1] for line in changes.splitlines() if line[:1] in {"M", "D"})
    robot = "bot" in author.lower() or re.match(r"(?i)(bump|update (dep|req)|release|version|merge|revert)\b", text)
    if " " in parents or not parents or robot or not 1 <= len(files) <= 8 or len(content_words(text)) < 3:
        return None
    return Question(text, parents, files)


class PlainBm25:
    """The baseline: one document per file, its whole text, tantivy's default tokenizer, standard BM25."""

    def __init__(self) -> None:
        self._index = tantivy.Index(
            tantivy.SchemaBuilder()
            .add_text_field("key", stored=True, tokenizer_name="raw")
            .add_text_field("body", index_option="freq")
            .build()
        )
        self._known: dict[str, str] = {}

    def move(self, snapshot: GitSnapshot) -> None:
        writer = self._index.writer(32 << 20, 1)
        for path in self._known.keys() - snapshot.files.keys():
            writer.delete_documents_by_term("key", path)
        for path, blob in snapshot.files.items():
            if self._known.get(path) != blob:
                writer.delete_documents_by_term("key", path)
                document = tantivy.Document()
                document.add_text("key", path)
                document.add_text("body", snapshot.read(path).decode("utf-8", "replace"))
                writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        self._known = dict(snapshot.files)
        self._index.reload()

    def find(self, text: str) -> list[str]:
        query, _ = self._index.parse_query_lenient(re.sub(r"[^\w\s]", " ", text), ["body"])
        searcher = self._index.searcher()
        return [str(searcher.doc(at).get_first("key")) for _, at in searcher.search(query, 20, count=False).hits]


def git_grep(repo: Path, commit: str, text: str) -> list[str]:
    """Files by how many of their lines have one of the words that are not stop words."""
    words = [part for word in dict.fromkeys(content_words(text)) for part in ("-e", word)]
    lines = git(repo, "grep", "-I", "-i", "-F", "-c", *words, commit).splitlines()
    counted = (line.removeprefix(commit + ":").rpartition(":") for line in lines)
    return [path for _, path in sorted(((-int(count), path) for path, _, count in counted))]


def measure(repo: Path, count: int, home: Path) -> dict[str, Score]:
    """Ask the questions of one repository of each method, each at its parent commit."""
    scores = {"wiki": Score(), "plain BM25": Score(), "git grep": Score()}
    plain = PlainBm25()
    for question in questions(repo, count):
        snapshot = GitSnapshot(repo, question.parent)
        update(home, snapshot)
        plain.move(snapshot)
        snapshot.close()
        wanted = question.files & snapshot.files.keys()
        if not wanted:
            continue
        index = WikiIndex(home)
        scores["wiki"].add(files_of(rank(read_query(question.text, index), index, 60)), wanted)
        scores["plain BM25"].add(plain.find(question.text), wanted)
        scores["git grep"].add(git_grep(repo, question.parent, question.text), wanted)
    return scores


# Confidence


def calibrate(questions_file: Path, repositories: Sequence[Path]) -> None:
    """Fit the confidence on the first repositories of the file that are given, check it on the last two."""
    labelled = json.loads(questions_file.read_text())
    homes = {name: repo for repo in repositories for name in labelled if repo_name(repo) == name}
    samples = {name: list(samples_of(repo, labelled[name], labelled["off_topic"])) for name, repo in homes.items()}
    names = list(samples)
    fitted = fit([sample for name in names[:-2] for sample in samples[name]])
    print(f"fitted on {', '.join(names[:-2])}: intercept {fitted[0]:.2f}, slope {fitted[1]:.2f}")
    for label, (intercept, slope) in {"fitted": fitted, "in use": (INTERCEPT, SLOPE)}.items():
        for part, chosen in (("fit", names[:-2]), ("check", names[-2:])):
            pairs = [sample for name in chosen for sample in samples[name]]
            right = sum((intercept + slope * coverage >= 0) == answerable for coverage, answerable in pairs)
            print(f"{label:8} {part:6} {right} of {len(pairs)} on the right side of the threshold")


def repo_name(repo: Path) -> str:
    """`owner/name` of a path that ends in owner/name or owner+name/repo."""
    return repo.parent.name.replace("+", "/") if "+" in repo.parent.name else f"{repo.parent.name}/{repo.name}"


def samples_of(repo: Path, labelled: dict[str, Any], off_topic: list[str]) -> Iterator[tuple[float, bool]]:
    with tempfile.TemporaryDirectory() as home:
        snapshot = GitSnapshot(repo)
        update(Path(home), snapshot)
        snapshot.close()
        index = WikiIndex(Path(home))
        yield from ((best_coverage(question, index), True) for question in labelled["answerable"])
        yield from ((best_coverage(question, index), False) for question in (*labelled["unanswerable"], *off_topic))


def fit(samples: list[tuple[float, bool]]) -> tuple[float, float]:
    """Logistic regression with balanced classes and a little ridge, by gradient descent."""
    intercept = slope = 0.0
    share = {kind: 0.5 / max(sum(answerable == kind for _, answerable in samples), 1) for kind in (True, False)}
    for _ in range(3000):
        errors = [
            (1 / (1 + math.exp(-intercept - slope * coverage)) - answerable, coverage, share[answerable])
            for coverage, answerable in samples
        ]
        intercept -= 2 * sum(error * weight for error, _, weight in errors)
        slope -= 2 * (sum(error * coverage * weight for error, coverage, weight in errors) + 0.002 * slope)
    return intercept, slope


# Speed


def five_thousand_files(into: Path, count: int) -> None:
    """Real code that every machine has: the standard library and the installed packages, as plain files."""
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    files = (file for place in places for file in sorted(place.rglob("*.py")) if 0 < file.stat().st_size < 200_000)
    for number, file in enumerate(itertools.islice(files, count)):
        target = into / f"part{number // 100:02}" / f"{file.parent.name}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


SPEED_QUESTIONS = (
    "How is a JSON document decoded?",
    "Where are the HTTP response headers parsed?",
    "How does the event loop run a callback soon?",
    "What does the argument parser do with unknown options?",
    "How are zip archives written with compression?",
    "How does the thread pool executor shut down its workers?",
    "How do I deploy to Kubernetes with Helm?",
    "How is a regular expression compiled and cached?",
)


async def speed(count: int) -> None:
    """Index time, latency and memory through the wiki as the service uses it."""
    with tempfile.TemporaryDirectory() as folder:
        repo, data = Path(folder, "repos/made/large"), Path(folder, "data")
        five_thousand_files(repo, count)
        wiki = Wiki(data, [repo.parent.parent], check_url=anything)
        before = resident()
        start = time.perf_counter()
        state = await wiki.index("made/large")
        size = sum(file.stat().st_size for file in repo.rglob("*.py")) >> 20
        used = os.times()
        cpu = used.children_user + used.children_system
        print(
            f"index {state.files} files, {size} MiB: {time.perf_counter() - start:.1f} s, {cpu:.1f} s of CPU, load {os.getloadavg()[0]:.1f}"
        )
        one = next(repo.rglob("*.py"))
        one.write_text("# changed\n" + one.read_text(errors="replace"))
        start = time.perf_counter()
        await wiki.index("made/large")
        print(f"index again after one change: {time.perf_counter() - start:.2f} s")
        taken = []
        for question in SPEED_QUESTIONS * 10:
            start = time.perf_counter()
            await wiki.ask("made/large", question)
            taken.append((time.perf_counter() - start) * 1000)
        taken.sort()
        print(f"ask: p50 {taken[len(taken) // 2]:.1f} ms, p95 {taken[int(len(taken) * 0.95)]:.1f} ms, max {taken[-1]:.1f} ms")
        start = time.perf_counter()
        structure = await wiki.structure("made/large")
        print(f"structure, first: {(time.perf_counter() - start) * 1000:.0f} ms, {len(structure.pages)} top pages")
        print(f"memory of this process: {before} MiB before, {resident()} MiB after")
        await wiki.close()


async def anything(_url: str) -> None:
    """No URL is fetched in this bench."""


def resident() -> int:
    """Resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def compare(repositories: Sequence[Path], count: int) -> None:
    """Print the quality of the three methods for each repository, and on average."""
    means: dict[str, list[tuple[float, float]]] = {}
    for repo in repositories:
        with tempfile.TemporaryDirectory() as home:
            for name, score in measure(repo, count, Path(home)).items():
                recall, mrr = score.means()
                means.setdefault(name, []).append((recall, mrr))
                print(f"{repo_name(repo):24} {name:12} n={len(score.recall):4} recall@5 {recall:.3f}  MRR {mrr:.3f}", flush=True)
    for name, pairs in means.items():
        recall, mrr = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        print(f"{'mean':24} {name:12} {'':6} recall@5 {recall:.3f}  MRR {mrr:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="*", type=Path, help="git repositories with history")
    parser.add_argument("-n", "--commits", type=int, default=100, help="questions per repository")
    parser.add_argument("--files", type=int, default=5_000, help="size of the made repository; 0 skips the speed bench")
    parser.add_argument("--calibrate", type=Path, metavar="QUESTIONS", help="fit the confidence instead of comparing")
    arguments = parser.parse_args()
    if arguments.calibrate:
        calibrate(arguments.calibrate, arguments.repositories)
        return
    compare(arguments.repositories, arguments.commits)
    if arguments.files:
        asyncio.run(speed(arguments.files))


if __name__ == "__main__":
    main()
