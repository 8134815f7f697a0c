"""Evaluates arithmetic without `eval`: the text is scanned against a small alphabet, parsed to Python's syntax tree, and the tree
is walked node by node; a node that is not listed here is refused. Nothing is compiled, called by name or looked up outside
`functions.py`, and the cost of every operation is bounded before it runs (`arithmetic.py`).
"""

import ast
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType

from auralink.servers.toolbox.arithmetic import PRECISION, Arithmetic, Number, bitwise
from auralink.servers.toolbox.errors import CalculationRefused
from auralink.servers.toolbox.functions import CONSTANTS, FUNCTIONS
from auralink.servers.toolbox.schemas import Calculation

MAX_LENGTH = 1_000
MAX_DEPTH = 50
NODE_COST = 0.2

_TYPOGRAPHY = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "π": " pi ", "√": " sqrt ", "\u00a0": " "})
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<number>0[xX][0-9a-fA-F_]++|0[bB][01_]++|0[oO][0-7_]++
          |(?:\d[\d_]*+(?:\.[\d_]*+)?|\.\d[\d_]*+)(?:[eE][+-]?\d++)?)(?![A-Za-z_])
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<operator>\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%()\[\],<>&|~])""",
    re.VERBOSE | re.ASCII,
)
_DECIMAL_MARK = re.compile(r"[.eE]")

_BINARY: Mapping[type[ast.operator], Callable[[Arithmetic, Number, Number], Number]] = MappingProxyType(
    {
        ast.Add: Arithmetic.add,
        ast.Sub: Arithmetic.subtract,
        ast.Mult: Arithmetic.multiply,
        ast.Div: Arithmetic.divide,
        ast.FloorDiv: Arithmetic.floor_divide,
        ast.Mod: Arithmetic.modulo,
        ast.Pow: Arithmetic.power,
    }
)
_INTEGER_BINARY: Mapping[type[ast.operator], Callable[[Arithmetic, int, int], int]] = MappingProxyType(
    {
        ast.LShift: Arithmetic.shift,
        ast.RShift: lambda a, x, y: a.shift(x, -y),
        ast.BitAnd: lambda _, x, y: bitwise("and_")(x, y),
        ast.BitOr: lambda _, x, y: bitwise("or_")(x, y),
    }
)
_COMPARE: Mapping[type[ast.cmpop], Callable[[Number, Number], bool]] = MappingProxyType(
    {
        ast.Lt: lambda x, y: x < y,
        ast.LtE: lambda x, y: x <= y,
        ast.Gt: lambda x, y: x > y,
        ast.GtE: lambda x, y: x >= y,
        ast.Eq: lambda x, y: x == y,
        ast.NotEq: lambda x, y: x != y,
    }
)

Value = Number | bool | list[Number]


def calculate(expression: str) -> Calculation:
    """The value of an arithmetic expression.

    Args:
        expression: one line of arithmetic in Python's notation, at most `MAX_LENGTH` characters.

    Returns:
        The value as text: integers exact, decimals to 34 significant digits, `exact` false where a step had to round.

    Raises:
        CalculationRefused: not arithmetic, no value, or too large; nothing is begun that `arithmetic.BUDGET` does not cover.
    """
    source = _scan(expression)
    evaluation = _Evaluation(source)
    value = evaluation.evaluate(_parse(source))
    return Calculation(
        expression=expression.strip(),
        result=evaluation.text(value),
        kind="boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "decimal",
        exact=evaluation.arithmetic.exact,
    )


def _scan(expression: str) -> str:
    """The expression in plain ASCII, every character of which belongs to a known token."""
    if len(expression) > MAX_LENGTH:
        raise CalculationRefused(
            f"The expression has {len(expression)} characters; {MAX_LENGTH} are read. Split it into several calculations."
        )
    source = expression.translate(_TYPOGRAPHY).strip()
    if not source:
        raise CalculationRefused("The expression is empty. Write arithmetic such as (2 + 3) * 4.")
    position = 0
    while position < len(source):
        token = _TOKEN.match(source, position)
        if token is None:
            raise CalculationRefused(_unreadable(source, position))
        position = token.end()
    # One line, so that a column of the syntax tree is an index into the source.
    return re.sub(r"[\t\r\n]", " ", source)


def _unreadable(source: str, position: int) -> str:
    character = source[position]
    if character == "^":
        return "^ is ambiguous. Write ** for a power or xor(a, b) for bitwise exclusive or."
    if character.isdigit() or character == ".":
        return f"Cannot read the number at position {position + 1}. Write products with *, as in 2*pi, and no units."
    return f"Unexpected {character!r} at position {position + 1}. Use numbers, + - * / // % **, brackets and functions."


def _parse(source: str) -> ast.expr:
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        place = f" near position {error.offset}" if error.offset else ""
        raise CalculationRefused(
            f"Not an arithmetic expression{place}: {error.msg}. Check brackets and operators; % is the remainder."
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise CalculationRefused("The expression is nested too deeply. Split it into several calculations.") from None


class _Evaluation:
    """One walk over one syntax tree."""

    def __init__(self, source: str) -> None:
        self.arithmetic = Arithmetic()
        self._source = source

    def evaluate(self, node: ast.expr, depth: int = 0) -> Value:
        if depth > MAX_DEPTH:
            raise CalculationRefused(f"More than {MAX_DEPTH} levels of nesting. Split it into several calculations.")
        self.arithmetic.pay(NODE_COST)
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name(id=name):
                return self.arithmetic.constant(_constant(name))
            case ast.UnaryOp(op=operator, operand=operand):
                return self._unary(operator, self._number(operand, depth))
            case ast.BinOp():
                return self._chain(node, depth)
            case ast.Compare():
                return self._compare(node, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._number(item, depth) for item in items]
        raise CalculationRefused(
            f"{type(node).__name__} is not arithmetic. Use numbers, operators, brackets and the functions of this tool."
        )

    def _number(self, node: ast.expr, depth: int) -> Number:
        value = self.evaluate(node, depth + 1)
        if isinstance(value, bool):
            raise CalculationRefused("A comparison is not a number. Compare as the last step only.")
        if isinstance(value, list):
            raise CalculationRefused("A list is not a number. Pass it to sum, mean, min, max, median or stdev.")
        return value

    def _literal(self, node: ast.Constant) -> Number:
        text = self._source[node.col_offset : node.end_col_offset]
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            return node.value
        if isinstance(node.value, float) and _DECIMAL_MARK.search(text):
            # The text, not the float that Python made of it: 0.1 means one tenth.
            return self.arithmetic.literal(text)
        raise CalculationRefused(f"{text} is not a number. Use decimal numbers.")

    def _unary(self, operator: ast.unaryop, value: Number) -> Number:
        match operator:
            case ast.USub():
                return self.arithmetic.negate(value)
            case ast.UAdd():
                return value
            case ast.Invert() if isinstance(value, int):
                return ~value
        raise CalculationRefused("Only + and - stand before a number, and ~ before an integer. Remove the other sign.")

    def _chain(self, node: ast.BinOp, depth: int) -> Number:
        """`a + b - c …` leans to the left; walking that side in a loop, a long sum is not a deep one."""
        steps = [node]
        while isinstance(steps[-1].left, ast.BinOp):
            steps.append(steps[-1].left)
        value = self._number(steps[-1].left, depth)
        for step in reversed(steps):
            value = self._binary(step.op, value, self._number(step.right, depth))
        return value

    def _binary(self, operator: ast.operator, left: Number, right: Number) -> Number:
        if compute := _BINARY.get(type(operator)):
            return compute(self.arithmetic, left, right)
        integer_compute = _INTEGER_BINARY.get(type(operator))
        if integer_compute and isinstance(left, int) and isinstance(right, int):
            return integer_compute(self.arithmetic, left, right)
        raise CalculationRefused("Shifts and bitwise operators take integers. Use round(), floor() or ceil() first.")

    def _compare(self, node: ast.Compare, depth: int) -> bool:
        values = [self._number(side, depth) for side in (node.left, *node.comparators)]
        steps = zip(node.ops, values, values[1:], strict=False)
        for operator, left, right in steps:
            compare = _COMPARE.get(type(operator))
            if compare is None:
                raise CalculationRefused("Comparisons are < <= > >= == and !=. Use one of them.")
            if not compare(self.arithmetic.exact_decimal(left), self.arithmetic.exact_decimal(right)):
                return False
        return True

    def _call(self, node: ast.Call, depth: int) -> Number:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = FUNCTIONS.get(name)
        if function is None or node.keywords:
            raise CalculationRefused(
                f"{name or 'That'} is not a function here, or was given keywords. Known: {', '.join(FUNCTIONS)}."
            )
        return function.call(self.arithmetic, [self.evaluate(argument, depth + 1) for argument in node.args])

    def text(self, value: Value) -> str:
        """The value as the answer shows it: whole decimals without a point, very large and small ones with an exponent."""
        if isinstance(value, list):
            raise CalculationRefused("The result is a list. Pass it to sum, mean, min, max, median or stdev.")
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        plain = self.arithmetic.canonical(value)
        return f"{plain:f}" if -10 <= plain.adjusted() < PRECISION else f"{plain:e}"


def _constant(name: str) -> Decimal:
    if name in CONSTANTS:
        return CONSTANTS[name]
    hint = f"write {FUNCTIONS[name].usage}" if name in FUNCTIONS else f"known constants: {', '.join(CONSTANTS)}"
    raise CalculationRefused(f"{name} is not a number here; {hint}.")
