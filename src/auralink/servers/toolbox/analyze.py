"""The bounded child of `code_analyzer`: `python -I -m auralink.servers.toolbox.analyze`, one JSON request on stdin.

In: `{"code", "language"}`. Out: the fields of `schemas.CodeAnalysis` but for `language`. Code is parsed and measured, never run.
"""

import re
from typing import Any

from auralink.servers.toolbox.bounded import limit, serve

if __name__ == "__main__":
    # Before the parsers are loaded.
    limit(memory_bytes=768 * 1024 * 1024, cpu_seconds=5)

from auralink.servers.toolbox.errors import AnalysisRefused
from auralink.servers.toolbox.findings import Finding, finding, metric_findings, python_findings, structure_findings
from auralink.servers.toolbox.measures import FunctionMetrics, code_rows, measure, measure_tokens
from auralink.servers.toolbox.structure import Structure, read_structure
from auralink.servers.toolbox.syntax import LANGUAGES, parse

MAX_ITEMS = 400
"""Functions, types, imports and findings reported, each; the summary counts all of them."""

_FILE_NAMES = {
    "java": "source.java",
    "c": "source.c",
    "cpp": "source.cpp",
    "csharp": "source.cs",
    "rust": "source.rs",
    "ruby": "source.rb",
    "php": "source.php",
    "swift": "source.swift",
    "kotlin": "source.kt",
    "scala": "source.scala",
    "lua": "source.lua",
}
# Comments by which code asks lizard not to look. A review is not asked by the reviewed.
_EXEMPTIONS = re.compile(r"lizard forgive|GENERATED CODE")
_SEVERITIES = ("error", "warning", "note")


def analyze(request: dict[str, Any]) -> dict[str, Any]:
    """Structure, metrics and findings of one file."""
    # Half of a surrogate pair can come in JSON, and nothing after this could encode it.
    code, language = request["code"].encode("utf-8", "replace").decode(), request["language"]
    try:
        structure, functions, code_lines = _read(code, language)
        findings = _findings(code, language, structure, functions, code_lines)
    except RecursionError:
        raise AnalysisRefused("The code is nested too deeply to parse. Send a smaller part of it.") from None
    return _report(code, structure, functions, findings, code_lines)


def _read(code: str, language: str) -> tuple[Structure, list[FunctionMetrics], int]:
    if language not in LANGUAGES:
        # Same length, so that lines and columns stay.
        unexempted = _EXEMPTIONS.sub(lambda match: match[0].replace(" ", "_"), code)
        return Structure(), *measure_tokens(unexempted, _FILE_NAMES[language])
    syntax = parse(code, language)
    rows = code_rows(syntax)
    return read_structure(syntax), measure(syntax, rows), len(rows)


def _findings(code: str, language: str, structure: Structure, functions: list[FunctionMetrics], code_lines: int) -> list[Finding]:
    found = [*metric_findings(functions, code_lines), *structure_findings(structure)]
    if language == "python":
        found += python_findings(code)
    else:
        found += [finding("error", "syntax-error", n, "The parser cannot read this place.") for n in structure.error_lines]
    return sorted(found, key=lambda f: (_SEVERITIES.index(f["severity"]), f["line"], f["rule"]))


def _report(
    code: str, structure: Structure, functions: list[FunctionMetrics], findings: list[Finding], code_lines: int
) -> dict[str, Any]:
    lists: dict[str, list[Any]] = {
        "imports": [vars(i) for i in structure.imports],
        "types": [vars(t) for t in structure.types],
        "functions": list(functions),
        "findings": list(findings),
    }
    complexities = [f["complexity"] for f in functions]
    return {
        "summary": {
            "lines": code.count("\n") + (not code.endswith("\n") and bool(code)),
            "code_lines": code_lines,
            **{name: len(items) for name, items in lists.items()},
            "mean_complexity": round(sum(complexities) / len(complexities), 2) if complexities else 0.0,
            "max_complexity": max(complexities, default=0),
        },
        **{name: items[:MAX_ITEMS] for name, items in lists.items()},
        "truncated": any(len(items) > MAX_ITEMS for items in lists.values()),
    }


if __name__ == "__main__":
    serve(analyze)
