"""From a name to a repository, and nothing outside the roots."""

from pathlib import Path

import pytest
from dulwich.repo import Repo

from auralink.servers.deepwiki.errors import RepositoryNotFound
from auralink.servers.deepwiki.repository import Source, plain_files, plain_fingerprint, read_head, resolve
from tests.servers.deepwiki.conftest import commit, make_repository, write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def find(name: str, roots: list[Path], data: Path) -> Source:
    return resolve(name, roots=roots, data_dir=data, clone_base="https://git.example")


def test_owner_and_name_are_looked_for_under_the_roots_then_as_a_root_then_as_a_clone(
    shop: Path, roots: Path, data: Path
) -> None:
    assert find("acme/shop", [roots], data) == Source("git", str(shop))
    assert find("acme/shop.git", [roots], data) == Source("git", str(shop))
    assert find("anyone/shop", [shop], data) == Source("git", str(shop))
    assert find("acme/other", [roots], data) == Source("clone", "https://git.example/acme/other")


def test_a_dot_is_the_first_root_that_is_a_repository(shop: Path, roots: Path, data: Path) -> None:
    assert find(".", [roots, shop], data) == Source("git", str(shop))
    with pytest.raises(RepositoryNotFound, match="itself a repository"):
        find(".", [roots], data)


def test_a_path_under_a_root_and_an_https_url_work(shop: Path, roots: Path, data: Path) -> None:
    assert find(str(shop), [roots], data) == Source("git", str(shop))
    assert find("https://Git.Example/a/b.git/", [roots], data) == Source("clone", "https://git.example/a/b")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "shop",
        "a/b/c",
        "../shop",
        "a/..",
        "/etc",
        "/",
        "http://git.example/a/b",
        "ssh://git.example/a/b",
        "git@git.example:a/b",
        "file:///etc",
        "ext::sh -c id",
        "https://",
        "https://git.example",
        "https://user:word@git.example/a/b",
        "https://git.example/a/b?x=1",
        "https://git.example/a/../../b",
        "-x/y",
        "a/b\n",
        "a\0/b",
    ],
)
def test_other_names_are_refused_with_what_to_do(name: str, roots: Path, data: Path) -> None:
    if name == "a/b\n":
        assert find(name, [roots], data).kind == "clone"
        return
    with pytest.raises(RepositoryNotFound):
        find(name, [roots], data)


def test_a_link_out_of_the_root_is_not_followed(roots: Path, data: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "secret", {"a.md": "secret"})
    (roots / "acme").mkdir()
    (roots / "acme/shop").symlink_to(tmp_path / "secret")
    with pytest.raises(RepositoryNotFound):
        find("acme/shop", [roots], data)


def test_objects_outside_the_roots_are_not_read(shop: Path, roots: Path, data: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "secret", {"a.md": "secret"})
    write(roots, {"acme/pointer/.git": f"gitdir: {tmp_path}/secret/.git\n"})
    with pytest.raises(RepositoryNotFound, match="outside"):
        find("acme/pointer", [roots], data)
    write(shop, {".git/objects/info/alternates": f"{tmp_path}/secret/.git/objects\n"})
    with pytest.raises(RepositoryNotFound, match="outside"):
        find("acme/shop", [roots], data)


def test_the_data_directory_has_no_plain_folders_to_read(data: Path) -> None:
    write(data, {"acme/keys/readme.md": "secret"})
    with pytest.raises(RepositoryNotFound):
        find("acme/keys", [data], data)
    with pytest.raises(RepositoryNotFound):
        find(str(data), [data], data)
    make_repository(data / "acme/shop", {"a.md": "public"})
    assert find("acme/shop", [data], data).kind == "git"


def test_head_is_read_from_loose_packed_and_detached_refs(shop: Path) -> None:
    repo = Repo(str(shop))
    head = repo.head().decode()
    assert read_head(shop) == head
    repo.refs.pack_refs(all=True)
    assert read_head(shop) == head
    (shop / ".git/HEAD").write_text(f"{head}\n")
    assert read_head(shop) == head
    repo.close()


def test_head_of_a_worktree_and_of_a_bare_repository_are_read(shop: Path, roots: Path) -> None:
    head = read_head(shop)
    write(
        roots,
        {
            "tree/.git": f"gitdir: {shop}/.git/worktrees/tree\n",
            "acme/shop/.git/worktrees/tree/HEAD": "ref: refs/heads/master\n",
            "acme/shop/.git/worktrees/tree/commondir": "../..\n",
        },
    )
    assert read_head(roots / "tree") == head
    (shop / ".git").rename(roots / "bare.git")
    assert read_head(roots / "bare.git") == head


def test_head_moves_with_a_commit_and_is_unknown_without_git(shop: Path, roots: Path) -> None:
    made = commit(shop, {"new.md": "new"})
    assert read_head(shop) == made
    assert read_head(roots) is None


def test_a_plain_folder_changes_when_a_visible_file_does(roots: Path) -> None:
    write(roots, {"p/a.md": "one", "p/.env": "x", "p/data/keys.md": "x"})
    before = plain_fingerprint(roots / "p", roots / "p/data")
    write(roots, {"p/.env": "other", "p/data/keys.md": "other", "p/b.png": "x"})
    assert plain_fingerprint(roots / "p", roots / "p/data") == before
    write(roots, {"p/a.md": "longer"})
    assert plain_fingerprint(roots / "p", roots / "p/data") != before


def test_a_folder_of_a_checkout_and_a_hidden_one_are_not_read_as_plain_folders(shop: Path, roots: Path, data: Path) -> None:
    write(roots, {"acme/.keys/a.md": "secret", "notes/a.md": "public", "notes/inner/.git": "gitdir: x", "notes/inner/b.md": "x"})
    with pytest.raises(RepositoryNotFound, match="inside of a repository"):
        find(str(shop / "src"), [roots], data)
    with pytest.raises(RepositoryNotFound, match="hidden"):
        find(str(roots / "acme/.keys"), [roots], data)
    assert find(str(roots / "notes"), [roots], data).kind == "plain"
    assert [path for path, _ in plain_files(roots / "notes", data)] == ["a.md"]
