"""Outlines of source files."""

from auralink.servers.deepwiki.definitions import Outline, outline, walk


def read(path: str, text: str) -> Outline:
    found = outline(path, text.encode())
    assert found is not None
    return found


def test_python_gives_names_signatures_docstrings_and_imports() -> None:
    found = read(
        "a.py",
        '"""Purpose\nof it.\n\nMore."""\nimport os.path as p\nfrom .x import y, z as q\nfrom . import k\n'
        "try:\n    import fast\nexcept ImportError:\n    import slow\n\n"
        '@deco\nasync def f(a: int,\n            *, b=1) -> int:\n    """Does f."""\n\nclass A(B):\n'
        "    def m(self): ...\n    def _n(self): ...\n",
    )
    assert found.purpose == "Purpose of it."
    assert found.imports == ("os.path", ".x.y", ".x.z", ".k", "fast", "slow")
    assert [(d.name, d.kind, d.line, d.end_line, d.public) for d in walk(found.definitions)] == [
        ("f", "function", 13, 16, True),
        ("A", "class", 18, 20, True),
        ("A.m", "function", 19, 19, True),
        ("A._n", "function", 20, 20, False),
    ]
    assert (found.definitions[0].signature, found.definitions[0].summary) == ("async def f(a: int, *, b=1) -> int", "Does f.")


def test_typescript_gives_exported_names_with_their_comments() -> None:
    found = read(
        "a.ts",
        '/** What it is. */\n\nimport { b } from "./b";\n// Adds.\n// Twice.\n'
        "export function add(a: number): number { return a }\n"
        "export const twice = (x: number) => x * 2;\ninterface I { a: string }\n"
        "export class K {\n  /** Runs. */\n  run(): void {}\n  private hide() {}\n}\nexports.old = function (q) {}\n",
    )
    assert found.purpose == "What it is."
    assert found.imports == ("./b",)
    assert [(d.name, d.kind, d.line, d.summary, d.public) for d in walk(found.definitions)] == [
        ("add", "function", 4, "Adds. Twice.", True),
        ("twice", "function", 7, "", True),
        ("I", "interface", 8, "", False),
        ("K", "class", 9, "", True),
        ("K.run", "method", 10, "Runs.", True),
        ("K.hide", "method", 12, "", False),
        ("old", "function", 14, "", True),
    ]


def test_javascript_gives_methods_that_are_assigned() -> None:
    found = read("a.js", "var z = require('./z');\nres.send = function send(body) {};\nA.prototype.go = () => 1;\n")
    assert found.imports == ("./z",)
    assert [d.name for d in found.definitions] == ["res.send", "A.go"]
    assert found.definitions[0].signature == "res.send = function send(body)"


def test_go_gives_methods_with_their_receiver() -> None:
    found = read(
        "a.go",
        '// Package g greets.\npackage g\n\nimport (\n\t"fmt"\n\tx "a/b"\n)\n\n// Greet says hello.\n'
        "func Greet(n string) error {\n\treturn nil\n}\n\n"
        "func (s *Server[T]) stop() {}\n\n// Server serves.\ntype Server[T any] struct {\n\tA int\n}\n",
    )
    assert found.purpose == "Package g greets."
    assert found.imports == ("fmt", "a/b")
    assert [(d.name, d.kind, d.line, d.end_line, d.public) for d in found.definitions] == [
        ("Greet", "function", 9, 12, True),
        ("Server.stop", "method", 14, 14, False),
        ("Server", "type", 16, 19, True),
    ]
    assert [d.signature for d in found.definitions] == [
        "func Greet(n string) error",
        "func (s *Server[T]) stop()",
        "type Server[T any] struct",
    ]


def test_broken_code_still_has_an_outline_and_other_languages_have_none() -> None:
    assert "ok" in [d.name for d in read("a.py", "def ok():\n    pass\n\nclass (\n").definitions]
    assert outline("a.rb", b"def x; end") is None
