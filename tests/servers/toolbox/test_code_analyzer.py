"""code_analyzer: what it reads in each language, and that nothing it reads is ever run."""

from pathlib import Path

import pytest

from auralink.servers.toolbox import server
from auralink.servers.toolbox.analysis import MAX_CHARACTERS, CodeAnalyzer
from auralink.servers.toolbox.analyze import MAX_ITEMS, analyze
from auralink.servers.toolbox.errors import AnalysisRefused
from auralink.servers.toolbox.findings import python_findings
from auralink.servers.toolbox.measures import measure_tokens
from auralink.servers.toolbox.schemas import CodeAnalysis

PYTHON = '''\
from __future__ import annotations
import os, sys
import json as j
from typing import List, cast
from .near import thing as thing
from wild import *

class Account:
    """Holds money."""

    def pay(self, amount, log=[]):
        try:
            if amount > 0 and self.open or amount == None:
                return eval("amount")
        except:
            pass
        return cast("List[int]", amount)

# TODO: pay in parts
def run(command):
    sys.run(command, shell=True)
'''

JAVASCRIPT = """\
import React, {useState as use} from "react";
import * as all from './all';
const fs = require("fs");
export {x} from "./x";
class Cart { add(item, count) { if (item && count) { return 1; } return 0; } }
// FIXME later
function risky() { try { eval("1"); } catch (e) {} debugger; }
var old = new Function("return 1");
"""

TYPESCRIPT = """\
import type {Shape} from "./shape";
interface Named { name: string }
enum Colour { Red }
type Id = string;
abstract class Base { abstract m(): void; }
export const area = async (s: Shape): Promise<number> => { for (;;) { return 1; } };
"""

GO = """\
package main

import (
	"fmt"
	m "math"
)

type Point struct{ X int }
type Shape interface{ Area() float64 }

func (p *Point) Move(dx int) error {
	if dx < 0 {
		panic("negative")
	}
	return nil
}

func main() { fmt.Println(m.Pi) }
"""


def _found(report: dict[str, list[dict[str, object]]]) -> set[tuple[object, object]]:
    return {(f["rule"], f["line"]) for f in report["findings"]}


def _analyze(code: str, language: str) -> dict[str, list[dict[str, object]]]:
    return analyze({"code": code, "language": language})


def test_python_is_read_down_to_the_line() -> None:
    report = _analyze(PYTHON, "python")
    assert [(i["module"], i["names"], i["line"]) for i in report["imports"]] == [
        ("__future__", ["annotations"], 1),
        ("os", [], 2),
        ("sys", [], 2),
        ("json", [], 3),
        ("typing", ["List", "cast"], 4),
        (".near", ["thing"], 5),
        ("wild", ["*"], 6),
    ]
    assert [(t["name"], t["kind"], t["line"], t["end_line"]) for t in report["types"]] == [("Account", "class", 8, 17)]
    assert [(f["name"], f["container"], f["line"], f["complexity"], f["parameters"]) for f in report["functions"]] == [
        ("pay", "Account", 11, 5, 2),
        ("run", "", 20, 1, 1),
    ]
    assert _found(report) == {
        ("unused-import", 2),
        ("unused-import", 3),
        ("star-import", 6),
        ("mutable-default", 11),
        ("compare-to-none", 13),
        ("eval-exec", 14),
        ("bare-except", 15),
        ("swallowed-exception", 15),
        ("todo", 19),
        ("shell-true", 21),
    }


def test_javascript_is_read_down_to_the_line() -> None:
    report = _analyze(JAVASCRIPT, "javascript")
    assert [(i["module"], i["names"], i["line"]) for i in report["imports"]] == [
        ("react", ["React", "useState"], 1),
        ("./all", ["* as all"], 2),
        ("fs", [], 3),
        ("./x", ["x"], 4),
    ]
    assert [(f["name"], f["container"], f["complexity"]) for f in report["functions"]] == [("add", "Cart", 3), ("risky", "", 2)]
    assert _found(report) == {
        ("eval-exec", 7),
        ("eval-exec", 8),
        ("swallowed-exception", 7),
        ("debugger", 7),
        ("todo", 6),
        ("var-declaration", 8),
    }


@pytest.mark.parametrize("language", ["typescript", "tsx"])
def test_typescript_shows_its_types(language: str) -> None:
    report = _analyze(TYPESCRIPT, language)
    assert [(t["name"], t["kind"]) for t in report["types"]] == [
        ("Named", "interface"),
        ("Colour", "enum"),
        ("Id", "type alias"),
        ("Base", "abstract class"),
    ]
    assert ("area", 6) in [(f["name"], f["line"]) for f in report["functions"]]
    assert report["imports"] == [{"module": "./shape", "names": ["Shape"], "line": 1}]
    assert report["findings"] == []


def test_go_shows_its_imports_types_and_functions() -> None:
    report = _analyze(GO, "go")
    assert [i["module"] for i in report["imports"]] == ["fmt", "math"]
    assert [(t["name"], t["kind"], t["line"]) for t in report["types"]] == [("Point", "struct", 8), ("Shape", "interface", 9)]
    assert [(f["name"], f["container"], f["line"], f["end_line"], f["complexity"]) for f in report["functions"]] == [
        ("Move", "Point", 11, 16, 2),
        ("main", "", 18, 18, 1),
    ]
    assert _found(report) == {("panic", 13)}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("java", "class A { int f(int x) { if (x > 1) { return 1; } return 0; } }"),
        ("c", "int f(int x) { if (x > 1) { return 1; } return 0; }"),
        ("cpp", "int f(int x) { if (x > 1) { return 1; } return 0; }"),
        ("csharp", "class A { int f(int x) { if (x > 1) { return 1; } return 0; } }"),
        ("rust", "fn f(x: i32) -> i32 { if x > 1 { return 1; } 0 }"),
        ("ruby", "def f(x)\n  if x > 1\n    return 1\n  end\n  0\nend\n"),
        ("php", "<?php function f($x) { if ($x > 1) { return 1; } return 0; }"),
        ("swift", "func f(x: Int) -> Int { if x > 1 { return 1 }; return 0 }"),
        ("kotlin", "fun f(x: Int): Int { if (x > 1) { return 1 }; return 0 }"),
        ("scala", "object A {\n  def f(x: Int): Int = {\n    if (x > 1) { return 1 }\n    0\n  }\n}\n"),
        ("lua", "function f(x)\n  if x > 1 then return 1 end\n  return 0\nend\n"),
    ],
)
def test_other_languages_get_function_metrics(language: str, code: str) -> None:
    functions = _analyze(code, language)["functions"]
    assert [(str(f["name"]).split("::")[-1], f["complexity"]) for f in functions] == [("f", 2)]


@pytest.mark.parametrize(
    ("language", "code", "line"),
    [("python", "x = 1\ndef f(:\n", 2), ("javascript", "let a;\nfunction (", 2), ("go", "package main\nfunc {", 2)],
)
def test_a_file_that_does_not_parse_says_where(language: str, code: str, line: int) -> None:
    assert ("syntax-error", line) in _found(_analyze(code, language))


def test_size_and_complexity_are_remarked_on() -> None:
    branches = "\n".join(f"    if a{n}:\n        b({n})" for n in range(40))
    code = f"def f({', '.join(f'a{n}' for n in range(40))}):\n{branches}\n"
    assert _found(_analyze(code, "python")) == {("long-function", 1), ("complex-function", 1), ("many-parameters", 1)}


@pytest.mark.parametrize("comment", ["#lizard forgives", "#lizard forgive", "GENERATED CODE", "#lizard forgive global"])
def test_reviewed_code_cannot_ask_not_to_be_looked_at(comment: str) -> None:
    report = _analyze(f"// {comment}\nint f() {{\n  // {comment}\n  return 1;\n}}\nint g() {{ return 2; }}\n", "c")
    assert [f["name"] for f in report["functions"]] == ["f", "g"]


def _own_sources() -> list[Path]:
    return sorted(Path(server.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", _own_sources(), ids=lambda p: p.name)
def test_complexity_on_the_tree_agrees_with_lizard_on_tokens(path: Path) -> None:
    code = path.read_text()
    by_tree = {(f["line"], f["end_line"]): f for f in _analyze(code, "python")["functions"]}
    by_tokens = {(f["line"], f["end_line"]): f for f in measure_tokens(code, "source.py")[0]}
    # lizard also counts `finally`, through which every path goes.
    both = [where for where in by_tree.keys() & by_tokens.keys() if "finally" not in _slice(code, *where)]
    assert len(both) >= 0.5 * len(by_tokens)
    assert {w: by_tree[w]["complexity"] for w in both} == {w: by_tokens[w]["complexity"] for w in both}


def _slice(code: str, line: object, end_line: object) -> str:
    assert isinstance(line, int)
    assert isinstance(end_line, int)
    return "\n".join(code.splitlines()[line - 1 : end_line])


def test_a_nested_function_keeps_its_own_decisions() -> None:
    inner = "    def inner(b):\n        return b and b\n"
    code = f"def outer(a):\n{inner}    if a:\n        return inner\n    return [x for x in a if x]\n"
    assert [(f["name"], f["complexity"]) for f in _analyze(code, "python")["functions"]] == [("outer", 4), ("inner", 2)]


def test_lines_of_code_leave_out_blanks_comments_and_docstrings() -> None:
    code = 'def f():\n    """Says\n    what."""\n\n    # why\n    x = 1  # how\n    return x\n'
    assert _analyze(code, "python")["functions"][0]["code_lines"] == 3
    script = "/* head\n more */ let a; // b\n\n/* x */\nfunction f() { /* y */\n}\n"
    assert analyze({"code": script, "language": "javascript"})["summary"]["code_lines"] == 3


def test_functions_take_the_name_they_are_assigned_to() -> None:
    code = "const a = () => 1;\nlet o = {b: function () {}, c(x) {}};\nx.d = async z => z;\n"
    code += "class E { f = (p, q) => 1 }\ng(() => 2);\n"
    assert [(f["name"], f["container"], f["parameters"]) for f in _analyze(code, "javascript")["functions"]] == [
        ("a", "", 0),
        ("b", "", 0),
        ("c", "", 1),
        ("x.d", "", 1),
        ("f", "E", 2),
        ("(anonymous)", "", 0),
    ]


def test_long_lists_are_cut_and_the_summary_still_counts_all() -> None:
    report = analyze({"code": "".join(f"def f{n}(): pass\n" for n in range(MAX_ITEMS + 50)), "language": "python"})
    assert (report["summary"]["functions"], len(report["functions"]), report["truncated"]) == (MAX_ITEMS + 50, MAX_ITEMS, True)


@pytest.mark.parametrize(
    "code",
    [
        "import os\ndef f() -> 'os.PathLike': ...\n",
        "import a\n__all__ = ['a']\n",
        "import a.b\nprint(a.b.c)\n",
        "from a import b as b\n",
        "from a import b\n@b.c\ndef f(): ...\n",
        "def f(x=None, y=(), z=frozenset()): ...\n",
        "try:\n    f()\nexcept ValueError:\n    pass\n",
        "f'{x}'\n# nothing to do\n",
    ],
)
def test_sound_python_gets_no_remark(code: str) -> None:
    assert python_findings(code) == []


async def test_code_is_analysed_in_a_child_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').write('x')\n\ndef f():\n    return 1\n"
    report = await CodeAnalyzer().analyze(code, "python")
    assert isinstance(report, CodeAnalysis)
    assert (report.language, report.summary.functions, report.summary.lines) == ("python", 1, 4)
    assert not marker.exists()


@pytest.mark.parametrize("code", ["\0", "\udcff = 1", "\ufeffx = 1", "\r\r\r", "def f():\r\n  return 1", "🐍 = 1"])
async def test_odd_text_is_analysed_or_refused_but_never_crashes(code: str) -> None:
    report = await CodeAnalyzer().analyze(code, "python")
    assert report.summary.code_lines >= 0


async def test_too_much_code_is_refused_before_a_process_is_started() -> None:
    with pytest.raises(AnalysisRefused, match=r"400,001 characters; 400,000 are read\. Send one file"):
        await CodeAnalyzer().analyze("x" * (MAX_CHARACTERS + 1), "python")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("code", ["-" * 20_000 + "1", "(" * 5_000, "def f():\n" + " if x:\n" * 2_000], ids=lambda c: c[:6])
async def test_code_nested_beyond_the_parser_is_refused_or_reported(code: str) -> None:
    try:
        report = await CodeAnalyzer().analyze(code, "python")
    except AnalysisRefused as error:
        refusal: str | None = error.message
    else:
        refusal = None if report.findings else "neither refused nor reported"
    assert refusal is None or "smaller part" in refusal
