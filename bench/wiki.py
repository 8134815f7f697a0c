"""How well and how fast the built-in wiki finds things: `make bench-wiki REPOS="path …"`.

Quality: of each repository, N commits become questions (their messages) with known answers (the files they touched that
existed before), asked at the parent commit. Printed are recall@5 and MRR of the wiki beside plain BM25 over whole files and
`git grep`. Speed: time to index, then latency of questions, on the repositories and on a made one of 5,000 files.
"""

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tantivy

from auralink.servers.deepwiki.index import WikiIndex
from auralink.servers.deepwiki.ranking import files_of, rank, read_query
from auralink.servers.deepwiki.snapshots import GitSnapshot
from auralink.servers.deepwiki.terms import content_words
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="*", type=Path)
    parser.add_argument("-n", "--commits", type=int, default=100)
    arguments = parser.parse_args()
    for repo in arguments.repositories:
        with tempfile.TemporaryDirectory() as home:
            start = time.perf_counter()
            scores = measure(repo, arguments.commits, Path(home))
            for name, score in scores.items():
                recall, mrr = score.means()
                print(f"{repo.parent.name:24} {name:12} n={len(score.recall):4} recall@5 {recall:.3f}  MRR {mrr:.3f}")
            print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
