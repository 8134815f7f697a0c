"""From the name a user gives to the repository it means, and whether that has changed; cheap enough for every question.

Only file names and refs are read here. Reading objects is `snapshots`, fetching is `cloning`, both in another process.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from auralink.servers.deepwiki.errors import RepositoryNotFound
from auralink.servers.deepwiki.selection import is_indexed

_OWNER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?/[A-Za-z0-9_.-]{1,100}")
OWN = "."
"""The name of the first root that is itself a repository: what can be asked before anything was set up is the service's checkout."""
_HOW = "use owner/name, the https URL of a git repository, or an absolute path under WIKI_REPO_ROOTS"


@dataclass(frozen=True, slots=True)
class Source:
    """A repository that may be read: a git folder or a plain one on this disk, or a URL to clone."""

    kind: Literal["git", "plain", "clone"]
    location: str

    @property
    def key(self) -> str:
        """The name of its folder under the data directory."""
        return hashlib.sha256(f"{self.kind}:{self.location}".encode()).hexdigest()[:32]


def resolve(name: str, *, roots: Sequence[Path], data_dir: Path, clone_base: str) -> Source:
    """The repository that `name` means; raises RepositoryNotFound (422) for anything it cannot mean.

    The roots and the data directory are resolved paths.
    owner/name is looked for under each root, then as a root called `name`, else it is cloned from `clone_base`; `.` is the first root
    that is itself a repository.
    """
    name = name.strip()
    if name == OWN:
        own = next((root for root in roots if _control_dir(root) is not None), None)
        if own is None:
            raise RepositoryNotFound(f"None of WIKI_REPO_ROOTS is itself a repository, which {OWN!r} would mean; {_HOW}.")
        return _local(own, roots, data_dir, name)
    if name.startswith("/"):
        return _local(Path(name), roots, data_dir, name)
    if "://" in name or name.startswith("git@"):
        return Source("clone", _clone_url(name))
    short = name.removesuffix(".git")
    if not _OWNER_NAME.fullmatch(short) or ".." in short:
        raise RepositoryNotFound(f"'{name[:200]}' does not name a repository; {_HOW}.")
    found = next((path for path in _candidates(short, roots) if path.is_dir()), None)
    if found is not None:
        return _local(found, roots, data_dir, name)
    return Source("clone", f"{clone_base.rstrip('/')}/{short}")


def _candidates(name: str, roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        yield root / name
        yield root / f"{name}.git"
    short = name.split("/")[1]
    yield from (root for root in roots if root.name == short)


def _clone_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise RepositoryNotFound(f"'{url[:200]}' is not an https URL; {_HOW}.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RepositoryNotFound("A clone URL has no user name, password, query or fragment; give the plain https URL.")
    path = parts.path.rstrip("/").removesuffix(".git")
    if not path or ".." in path.split("/"):
        raise RepositoryNotFound(f"'{url[:200]}' names a host but no repository; add its path, as in https://host/owner/name.")
    return f"https://{parts.netloc.lower()}{path}"


def _local(path: Path, roots: Sequence[Path], data_dir: Path, name: str) -> Source:
    real = path.resolve()
    if not real.is_dir() or not _is_under(real, roots):
        raise RepositoryNotFound(f"There is no repository '{name[:200]}' under WIKI_REPO_ROOTS; {_HOW}.")
    control = _control_dir(real)
    if control is None:
        if _is_under(real, [data_dir]):
            raise RepositoryNotFound(f"'{name[:200]}' is not a git repository, and the data directory holds no plain ones.")
        _check_plain(real, roots, name)
        return Source("plain", str(real))
    if not all(_is_under(place.resolve(), roots) for place in _places(control)):
        raise RepositoryNotFound(f"The objects of '{name[:200]}' lie outside WIKI_REPO_ROOTS; add their folder to it.")
    return Source("git", str(real))


def _check_plain(path: Path, roots: Sequence[Path], name: str) -> None:
    """Refuses a plain folder that would show what its owner keeps out of sight: hidden, or part of a repository's checkout."""
    root = next(root for root in roots if _is_under(path, [root]))
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        raise RepositoryNotFound(f"'{name[:200]}' is a hidden folder; {_HOW}.")
    above = [parent for parent in path.parents if _is_under(parent, [root])]
    if any(_control_dir(parent) is not None for parent in above):
        raise RepositoryNotFound(f"'{name[:200]}' is a folder inside of a repository; name the repository itself.")


def _is_under(path: Path, roots: Sequence[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)


def _control_dir(path: Path) -> Path | None:
    """The folder that git keeps its own files in: `.git`, where a `.git` file points, or the (bare) folder itself."""
    dotgit = path / ".git"
    if dotgit.is_dir():
        return dotgit
    if dotgit.is_file():
        text = dotgit.read_text("utf-8", "replace")
        return (path / text.removeprefix("gitdir:").strip()) if text.startswith("gitdir:") else None
    return path if (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir() else None


def _common_dir(control: Path) -> Path:
    try:
        return control / (control / "commondir").read_text("utf-8", "replace").strip()
    except OSError:
        return control


def _places(control: Path) -> Iterator[Path]:
    """Every folder that objects or refs of the repository may come from."""
    common = _common_dir(control)
    yield from (control, common, common / "objects", common / "refs")
    try:
        alternates = (common / "objects/info/alternates").read_text("utf-8", "replace")
    except OSError:
        return
    yield from (common / "objects" / line for line in alternates.splitlines() if line and not line.startswith("#"))


def read_head(path: Path) -> str | None:
    """The commit id of HEAD, read from the ref files alone; None if they do not say."""
    control = _control_dir(path)
    if control is None:
        return None
    try:
        head = (control / "HEAD").read_bytes().strip()
        if not head.startswith(b"ref: "):
            return head.decode("ascii", "replace")
        return _read_ref(control, head[5:])
    except OSError:
        return None


def _read_ref(control: Path, ref: bytes) -> str | None:
    common = _common_dir(control)
    for place in (control, common):
        try:
            return (place / os.fsdecode(ref)).read_text("ascii", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
    packed = (common / "packed-refs").read_bytes()
    end = packed.find(b" " + ref + b"\n")
    return packed[packed.rfind(b"\n", 0, end) + 1 : end].decode("ascii", "replace") if end >= 0 else None


def plain_files(path: Path, excluded: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files of a plain directory that are indexed, in order: no hidden ones, no links, nothing below `excluded` and
    nothing of a checkout inside of it (that is a repository by itself, and may have files that git ignores)."""
    for folder, folders, names in os.walk(path, followlinks=False):
        folders[:] = sorted(name for name in folders if _is_entered(Path(folder, name), excluded))
        with os.scandir(folder) as entries:
            by_name = {entry.name: entry for entry in entries}
        for name in sorted(names):
            relative = os.path.relpath(os.path.join(folder, name), path)  # noqa: PTH118 - hot loop
            entry = by_name.get(name)
            if entry and not name.startswith(".") and is_indexed(relative) and entry.is_file(follow_symlinks=False):
                yield relative, entry.stat(follow_symlinks=False)


def _is_entered(folder: Path, excluded: Path) -> bool:
    return not folder.name.startswith(".") and folder != excluded and not (folder / ".git").exists()


def plain_fingerprint(path: Path, excluded: Path) -> str:
    """Changes when a file of the directory is added, removed, resized or touched."""
    digest = hashlib.sha256()
    for relative, status in plain_files(path, excluded):
        digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
