"""The reference says what the code has: every error's code, every route, every table."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from auralink.core.errors import AuralinkError
from tests.isolation.test_http_matrix import document

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
MIGRATIONS = Path(__file__).parents[1] / "src" / "auralink" / "migrations"


def errors(base: type[AuralinkError] = AuralinkError) -> Iterator[type[AuralinkError]]:
    for error in base.__subclasses__():
        yield error
        yield from errors(error)


def test_every_error_code_stands_in_the_reference() -> None:
    text = (REFERENCE / "errors.md").read_text()
    document()  # imports all there is
    codes = {error.code for error in errors() if error.__module__.startswith("auralink.")}
    assert sorted(code for code in codes if f"`{code}`" not in text) == []


def test_every_route_stands_in_the_reference() -> None:
    text = re.sub(r"\{[^}]*\}", "{}", (REFERENCE / "rest.md").read_text())
    paths = {re.sub(r"\{[^}]*\}", "{}", path).removeprefix("/api/v1") for path in document()["paths"]}
    assert sorted(path for path in paths if f"`{path}" not in text and f" {path}" not in text) == []


def test_every_table_stands_in_the_reference() -> None:
    text = (REFERENCE / "database.md").read_text()
    made = re.findall(r"CREATE (?:TABLE|VIEW) auralink\.(\w+)", "".join(path.read_text() for path in MIGRATIONS.glob("*.sql")))
    assert sorted(name for name in set(made) if f"`{name}`" not in text) == []


@pytest.mark.parametrize("page", sorted(REFERENCE.parent.rglob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
