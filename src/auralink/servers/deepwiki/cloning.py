"""Fetching the newest commit of an https repository into a bare one under the data directory, with dulwich.

Runs in the indexing process. The caller has checked the URL and hands over the addresses it may connect to; a redirect is
not followed but reported, so that its target is checked as well. No credentials, no configuration, no hooks: what is
fetched is public.
"""

import errno
import shutil
import socket
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from dulwich.client import HTTPUnauthorized, Urllib3HttpGitClient, default_urllib3_manager
from dulwich.config import ConfigDict
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from auralink.servers.deepwiki.errors import RepositoryTooLarge, RepositoryUnreachable

_HEAD = Ref(b"refs/heads/wiki")
_TIMEOUT = 30.0
_NOT_GIT = (
    GitProtocolError,
    HangupException,
    NotGitRepository,
    HTTPUnauthorized,
    urllib3.exceptions.HTTPError,
    zlib.error,
    ValueError,  # these three are what dulwich raises on an answer that is not git's
    KeyError,
    AssertionError,
)


class Redirected(Exception):
    """The server says that the repository is elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def fetch(url: str, into: Path, *, addresses: Sequence[str] = (), max_bytes: int) -> None:
    """Make HEAD of the bare repository `into` the remote's HEAD, depth 1, transferring only what is missing.

    Raises RepositoryUnreachable, RepositoryTooLarge, or Redirected with the URL to check and try instead.
    """
    if addresses:
        _pin(urlsplit(url).hostname or "", addresses)
    fresh = not (into / "HEAD").exists()
    if fresh:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
    repo = Repo.init_bare(str(into)) if fresh else Repo(str(into))
    try:
        _fetch(url, repo, max_bytes)
    except Redirected:
        raise
    except _NOT_GIT as error:
        raise RepositoryUnreachable(f"{url} could not be cloned: {_reason(error)}.") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _too_large(url, max_bytes) from error
        raise
    finally:
        repo.close()


def _fetch(url: str, repo: Repo, max_bytes: int) -> None:
    parts = urlsplit(url)
    client = Urllib3HttpGitClient(f"{parts.scheme}://{parts.netloc}/", pool_manager=_pool(url), timeout=_TIMEOUT, quiet=True)
    wanted: list[ObjectID] = []

    def determine_wants(refs: Any, depth: int | None = None) -> list[ObjectID]:
        wanted.append(refs[b"HEAD"]) if b"HEAD" in refs else None
        return [head for head in wanted if head not in repo.object_store]

    result = client.fetch(parts.path, repo, determine_wants, depth=1)
    head = wanted[0] if wanted else result.refs.get(Ref(b"HEAD"))
    if head is None:
        raise RepositoryUnreachable(f"{url} has no commit yet; push one, then ask again.")
    if sum(file.stat().st_size for file in Path(repo.path).rglob("*") if file.is_file()) > max_bytes:
        raise _too_large(url, max_bytes)
    repo.refs[_HEAD] = ObjectID(head)
    repo.refs.set_symbolic_ref(Ref(b"HEAD"), _HEAD)


def _too_large(url: str, max_bytes: int) -> RepositoryTooLarge:
    return RepositoryTooLarge(f"{url} has more than {max_bytes >> 20} MiB; put a checkout of it under WIKI_REPO_ROOTS.")


class _NoRedirects:
    """A urllib3 pool that reports a redirect instead of following it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.headers = pool.headers

    def request(self, method: str, url: str, **options: Any) -> Any:
        response = self._pool.request(method, url, redirect=False, **options)
        location = response.get_redirect_location()
        if location:
            raise Redirected(urljoin(url, location).split("/info/refs", maxsplit=1)[0])
        return response


def _pool(url: str) -> Any:
    return _NoRedirects(default_urllib3_manager(ConfigDict(), base_url=url, timeout=_TIMEOUT))


def _pin(host: str, addresses: Sequence[str]) -> None:
    """Let `host` resolve to the checked addresses only, in this (single-purpose) process."""
    system = socket.getaddrinfo

    def pinned(name: Any, *rest: Any, **options: Any) -> Any:
        if name != host:
            return system(name, *rest, **options)
        return [entry for address in addresses for entry in system(address, *rest, **options)]

    socket.getaddrinfo = pinned  # type: ignore[assignment]


def _reason(error: Exception) -> str:
    if isinstance(error, NotGitRepository):
        return "the server knows no repository at this address"
    if isinstance(error, HTTPUnauthorized):
        return "it does not exist or is private (only public repositories are cloned)"
    return " ".join(str(error).split())[:300] or type(error).__name__
