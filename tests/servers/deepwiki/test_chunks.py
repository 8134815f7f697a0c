"""Files as passages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralink.servers.deepwiki.chunks import MAX_FILE_BYTES, Chunk, parse
from auralink.servers.deepwiki.selection import is_indexed


def chunks(path: str, text: str) -> list[Chunk]:
    parsed = parse(path, text.encode())
    assert parsed is not None
    return list(parsed.chunks)


def places(path: str, text: str) -> list[tuple[int, int, str]]:
    return [(chunk.line, chunk.end_line, chunk.heading) for chunk in chunks(path, text)]


def test_markdown_is_cut_by_heading_and_code_fences_hold_no_headings() -> None:
    text = "intro\n\n# A\ntext\n```sh\n# not a heading\n```\n## B\nmore\n\nC\n-\n"
    assert places("a.md", text) == [(1, 1, ""), (3, 7, "A"), (8, 12, "A › B")]


def test_a_heading_with_nothing_below_it_opens_the_next_passage() -> None:
    assert places("a.md", "# Guide\n\n## Install\n\nrun it\n") == [(1, 5, "Guide › Install")]


def test_restructured_text_is_cut_by_underlined_headings_in_order_of_their_styles() -> None:
    text = "=====\nTitle\n=====\n\nhello\n\nPart\n----\n\nbody\n\nNext\n----\n\nend\n"
    assert places("a.rst", text) == [(1, 5, "Title"), (7, 10, "Title › Part"), (12, 15, "Title › Next")]


def test_code_is_cut_by_definition_and_the_rest_of_the_file_belongs_to_nobody() -> None:
    text = '"""Doc."""\nimport os\n\n@cache\ndef f():\n    return 1\n\nx = 1\n\nclass A:\n    def m(self): ...\n'
    assert places("a.py", text) == [(1, 2, ""), (4, 6, "f"), (8, 8, ""), (10, 11, "A")]


def test_a_large_class_is_cut_by_method() -> None:
    methods = "".join(f"    def m{n}(self):\n        return {n}\n\n" for n in range(30))
    found = places("a.py", f"class A:\n    '''Doc.'''\n\n{methods}")
    assert found[:3] == [(1, 2, "A"), (4, 5, "A.m0"), (7, 8, "A.m1")]


def test_other_files_are_cut_into_windows_that_end_at_blank_lines() -> None:
    text = "\n".join("" if number % 50 == 0 else f"line {number}" for number in range(1, 200))
    assert places("a.conf", text) == [(1, 50, ""), (51, 100, ""), (101, 150, ""), (151, 199, "")]


@pytest.mark.parametrize("data", [b"a\0b", b"x" * (MAX_FILE_BYTES + 1), b"y" * 5000, b""])
def test_binary_large_machine_written_and_empty_files_are_not_indexed(data: bytes) -> None:
    assert parse("a.py", data) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.py", True),
        ("Makefile", True),
        ("node_modules/x/a.js", False),
        ("a/vendor/b.go", False),
        ("package-lock.json", False),
        ("go.sum", False),
        ("logo.png", False),
        ("app.min.js", False),
        ("deploy/server.key", False),
    ],
)
def test_binary_locked_vendored_and_key_files_are_told_by_their_path(path: str, expected: bool) -> None:
    assert is_indexed(path) is expected


WORDS = """# Head|## Sub|====|----|word word|def f():|    pass|class A:|    def m(self): pass|```|
@x|if y:|func F() {|}|type T struct {|
export class B {|  m() {}|// note|\t|''\'|  """.replace("\n", "").split("|")
LINES = st.lists(st.sampled_from(["", *WORDS]), max_size=150)


@given(LINES, st.sampled_from(["a.md", "a.rst", "a.py", "a.go", "a.ts", "a.js", "a.txt", "a.cfg"]))
def test_every_line_that_is_not_blank_is_in_exactly_one_passage_verbatim(lines: list[str], path: str) -> None:
    parsed = parse(path, "\n".join(lines).encode())
    if parsed is None:
        assert not any(lines)
        return
    seen: list[int] = []
    for chunk in parsed.chunks:
        assert chunk.text.split("\n") == lines[chunk.line - 1 : chunk.end_line]
        seen += range(chunk.line, chunk.end_line + 1)
    assert seen == sorted(set(seen))
    assert {number for number, line in enumerate(lines, 1) if line.strip()} <= set(seen)
