"""The files of a repository at one moment: a commit read with dulwich, or a plain directory read by content hash.

Used only inside the indexing process, so that the service never holds a repository's objects in memory. Symbolic links
and submodules are not followed, filters and hooks never run: what is read are the bytes of the tree itself.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dulwich.errors import NotGitRepository, ObjectMissing
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo

from auralink.servers.deepwiki.chunks import MAX_FILE_BYTES
from auralink.servers.deepwiki.errors import IndexingFailed, RepositoryNotFound
from auralink.servers.deepwiki.repository import plain_files
from auralink.servers.deepwiki.selection import is_indexed

MAX_FILES = 50_000


class Snapshot(Protocol):
    """What indexing needs to know: which files there are, by content id, and what is in one."""

    commit: str | None
    files: dict[str, str]

    def read(self, path: str) -> bytes: ...

    def close(self) -> None: ...


class GitSnapshot:
    """The tree of `commit` (default HEAD) of a repository on this disk."""

    def __init__(self, path: Path, commit: str | None = None) -> None:
        try:
            self._repo = Repo(os.fspath(path))
            head = ObjectID(commit.encode()) if commit else self._repo.head()
            found = self._repo[head]
        except NotGitRepository as error:
            raise RepositoryNotFound(f"{path.name} is not a git repository; name one that has a .git folder.") from error
        except KeyError as error:
            raise RepositoryNotFound(f"{path.name} has no commit yet; commit its files, then ask again.") from error
        if not isinstance(found, Commit):
            raise IndexingFailed(f"HEAD of {path.name} is not a commit; check the repository with `git fsck`.")
        self.commit: str | None = head.decode()
        self.files: dict[str, str] = dict(sorted(self._entries(found.tree))[:MAX_FILES])

    def _entries(self, tree: ObjectID) -> Iterator[tuple[str, str]]:
        for entry in iter_tree_contents(self._repo.object_store, tree):
            if entry.mode is None or not stat.S_ISREG(entry.mode) or entry.path is None or entry.sha is None:
                continue
            path = entry.path.decode("utf-8", "replace")
            if is_indexed(path):
                yield path, entry.sha.decode()

    def read(self, path: str) -> bytes:
        try:
            return self._repo.object_store.get_raw(ObjectID(self.files[path].encode()))[1]
        except (KeyError, ObjectMissing) as error:
            raise IndexingFailed(f"{path} is missing from the repository's objects; run `git fsck` there.") from error

    def close(self) -> None:
        self._repo.close()


class PlainSnapshot:
    """The visible regular files of a directory without git. `excluded` is a subtree that is never entered."""

    def __init__(self, path: Path, excluded: Path) -> None:
        self._path = path
        self.commit: str | None = None
        self.files: dict[str, str] = {}
        for relative, _ in plain_files(path, excluded):
            if len(self.files) >= MAX_FILES:
                break
            self.files[relative] = hashlib.sha1(self.read(relative), usedforsecurity=False).hexdigest()

    def read(self, path: str) -> bytes:
        with (self._path / path).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)

    def close(self) -> None: ...
