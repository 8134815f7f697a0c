"""What a reviewer would point at, with its line. Rules that need only comments or metrics hold for every language; `_PythonRules`
reads Python's own syntax tree. Nothing here is executed, imported or evaluated.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import TypedDict

from auralink.servers.toolbox.measures import FunctionMetrics
from auralink.servers.toolbox.structure import Structure

LONG_FUNCTION = 60
COMPLEX_FUNCTION = 10
MANY_PARAMETERS = 7
LONG_FILE = 500

_TODO = re.compile(r"\b(TODO|FIXME|HACK|XXX)\b[:\s]*(.{0,120})")
_MUTABLE_CALLS = frozenset({"list", "dict", "set", "defaultdict", "OrderedDict", "deque", "Counter", "bytearray"})
_MARKS = {
    "eval": ("warning", "eval-exec", "Code is built from text and run. Parse the data instead."),
    "debugger": ("warning", "debugger", "A debugger statement was left in. Remove it."),
    "empty_catch": (
        "warning",
        "swallowed-exception",
        "The error is caught and dropped. Handle it, or say why it may be ignored.",
    ),
    "var": ("note", "var-declaration", "var is scoped to the function. Use const or let."),
    "panic": ("note", "panic", "panic stops the program. Return an error unless the state is beyond repair."),
}


class Finding(TypedDict):
    """One remark. `severity` is error, warning or note."""

    rule: str
    severity: str
    line: int
    message: str


def finding(severity: str, rule: str, line: int, message: str) -> Finding:
    """A `Finding`, in the order a reader says it."""
    return Finding(rule=rule, severity=severity, line=line, message=message)


def metric_findings(functions: Iterable[FunctionMetrics], code_lines: int) -> Iterator[Finding]:
    """Functions that are too long, too complex or take too much, and a file that is too long."""
    if code_lines > LONG_FILE:
        yield finding("note", "long-file", 1, f"The file has {code_lines} lines of code. Split it by subject.")
    for f in functions:
        name, line = f["name"], f["line"]
        if f["code_lines"] > LONG_FUNCTION:
            yield finding("warning", "long-function", line, f"{name} has {f['code_lines']} lines of code. Split it into steps.")
        if f["complexity"] > COMPLEX_FUNCTION:
            message = f"{name} has a cyclomatic complexity of {f['complexity']}. Return early or move branches out."
            yield finding("warning", "complex-function", line, message)
        if f["parameters"] > MANY_PARAMETERS:
            yield finding(
                "note", "many-parameters", line, f"{name} takes {f['parameters']} parameters. Group what belongs together."
            )


def structure_findings(structure: Structure) -> Iterator[Finding]:
    """Reminders in comments, and constructs that the tree-sitter queries marked."""
    for line, comment in structure.comments:
        for offset, text in enumerate(comment.splitlines()):
            if todo := _TODO.search(text):
                yield finding("note", "todo", line + offset, f"{todo[1]}: {todo[2].strip(' */-')}".rstrip(": "))
    for mark, lines in structure.marks.items():
        severity, rule, message = _MARKS[mark]
        yield from (finding(severity, rule, line, message) for line in lines)


def python_findings(source: str) -> list[Finding]:
    """The rules that read Python's syntax tree; a single `syntax-error` if there is none."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [finding("error", "syntax-error", error.lineno or 1, f"Python does not parse this: {error.msg}.")]
    rules = _PythonRules()
    for node in ast.walk(tree):
        rules.look_at(node)
    return [*rules.found, *_unused_imports(tree)]


class _PythonRules:
    def __init__(self) -> None:
        self.found: list[Finding] = []

    def look_at(self, node: ast.AST) -> None:
        match node:
            case ast.ExceptHandler():
                self._handler(node)
            case ast.Call():
                self._call(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._defaults(node.args)
            case ast.Compare():
                self._comparison(node)
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                self._say(node, "note", "star-import", "All names are imported. Name the ones that are used.")

    def _say(self, node: ast.stmt | ast.expr | ast.ExceptHandler, severity: str, rule: str, message: str) -> None:
        self.found.append(finding(severity, rule, node.lineno, message))

    def _handler(self, node: ast.ExceptHandler) -> None:
        if node.type is None:
            self._say(node, "warning", "bare-except", "A bare except also catches KeyboardInterrupt. Name the exceptions.")
        catches_all = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
        if catches_all and all(isinstance(s, ast.Pass) or _is_ellipsis(s) for s in node.body):
            self._say(node, "warning", "swallowed-exception", "Every error is caught and dropped. Handle it or let it pass.")

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            self._say(node, "warning", "eval-exec", f"{node.func.id} runs text as code. Parse the data instead.")
        if any(k.arg == "shell" and isinstance(k.value, ast.Constant) and k.value.value is True for k in node.keywords):
            self._say(node, "warning", "shell-true", "The command goes through a shell. Pass a list of arguments.")

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None and _is_mutable(default):
                self._say(
                    default, "warning", "mutable-default", "The default is shared between calls. Use None and make it inside."
                )

    def _comparison(self, node: ast.Compare) -> None:
        equality = any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        if equality and any(isinstance(side, ast.Constant) and side.value is None for side in node.comparators):
            self._say(node, "note", "compare-to-none", "None is compared with ==. Use is None.")


def _is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and statement.value.value is ...


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _MUTABLE_CALLS
    return isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def _unused_imports(tree: ast.Module) -> Iterator[Finding]:
    used = {name for node in ast.walk(tree) for name in _names_used(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", None) != "__future__":
            for alias in node.names:
                bound = (alias.asname or alias.name).split(".")[0]
                # `import x as x` is how a name is re-exported on purpose (PEP 484).
                if bound not in used and bound != "*" and alias.asname != alias.name:
                    yield finding("warning", "unused-import", alias.lineno, f"{bound} is imported and never used. Remove it.")


def _names_used(node: ast.AST) -> Iterable[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Load() | ast.Del()):
            return (name,)
        case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
            return _words(value)
        case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=ast.expr() as annotation):
            return _words(annotation)
        case ast.FunctionDef(returns=ast.expr() as annotation) | ast.AsyncFunctionDef(returns=ast.expr() as annotation):
            return _words(annotation)
        case ast.Call(func=ast.Name(id="cast" | "TypeVar" | "NewType"), args=[*arguments]):
            return [word for argument in arguments for word in _words(argument)]
    return ()


def _words(node: ast.expr) -> list[str]:
    """Names inside strings, where strings hold names: annotations in quotes and `__all__`."""
    texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return [word for text in texts for word in re.findall(r"\w+", text)]
