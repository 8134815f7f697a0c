"""The names a calculation may use: constants and functions. Whatever is not in these two tables does not exist for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from types import MappingProxyType
from typing import Any

from auralink.servers.toolbox.arithmetic import Arithmetic, Number, bitwise
from auralink.servers.toolbox.errors import CalculationRefused

PI = Decimal("3.141592653589793238462643383279503")
CONSTANTS: Mapping[str, Decimal] = MappingProxyType(
    {
        "pi": PI,
        "tau": Decimal("6.283185307179586476925286766559006"),
        "e": Decimal("2.718281828459045235360287471352662"),
        "phi": Decimal("1.618033988749894848204586834365638"),
    }
)


@dataclass(frozen=True)
class Function:
    """A callable name: how it is written, how many arguments it takes, and whether they must be integers or a list."""

    usage: str
    compute: Callable[..., Number]
    least: int = 1
    most: int = 1
    integers: bool = False
    variadic: bool = False

    def call(self, arithmetic: Arithmetic, arguments: Sequence[Any]) -> Number:
        """Checks the arguments against the declaration, then computes.

        Raises:
            CalculationRefused: a wrong number or kind of arguments, or the computation itself refuses.
        """
        values = _spread(arguments) if self.variadic else list(arguments)
        if any(isinstance(v, list | bool) for v in values):
            raise CalculationRefused(f"{self.usage} takes numbers. Pass plain numbers.")
        if not values or (not self.variadic and not self.least <= len(values) <= self.most):
            raise CalculationRefused(f"{self.usage} was given {len(values)} arguments. Call it as shown.")
        if self.integers:
            values = [_integer(arithmetic, v, self.usage) for v in values]
        return self.compute(arithmetic, values) if self.variadic else self.compute(arithmetic, *values)


def _spread(arguments: Sequence[Any]) -> list[Any]:
    """`max(1, 2)` and `max([1, 2])` mean the same."""
    return list(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], list) else list(arguments)


def _integer(a: Arithmetic, value: Number, usage: str) -> int:
    if isinstance(value, int):
        return value
    if value == value.to_integral_value():
        return a.to_int(value)
    raise CalculationRefused(f"{usage} takes integers. Use round(), floor() or ceil() first.")


def _sum(a: Arithmetic, values: list[Number]) -> Number:
    return reduce(a.add, values)


def _product(a: Arithmetic, values: list[Number]) -> Number:
    return reduce(a.multiply, values)


def _mean(a: Arithmetic, values: list[Number]) -> Number:
    return a.divide(_sum(a, values), len(values))


def _median(a: Arithmetic, values: list[Number]) -> Number:
    ordered = sorted(values, key=a.exact_decimal)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else _mean(a, ordered[middle - 1 : middle + 1])


def _variance(a: Arithmetic, values: list[Number]) -> Number:
    """The sample variance (divides by n - 1)."""
    if len(values) < 2:
        raise CalculationRefused("variance() and stdev() need at least two numbers. Add more.")
    mean = _mean(a, values)
    squares = [a.multiply(d, d) for d in (a.subtract(v, mean) for v in values)]
    return a.divide(_sum(a, squares), len(values) - 1)


def _log(a: Arithmetic, value: Number, base: Number | None = None) -> Number:
    return a.ln(value) if base is None else a.log(value, base)


def _round(a: Arithmetic, value: Number, digits: Number = 0) -> Number:
    return a.round(value, _integer(a, digits, "round(x, digits)"))


def _power(a: Arithmetic, base: Number, exponent: Number, modulus: Number | None = None) -> Number:
    if modulus is None:
        return a.power(base, exponent)
    usage = "pow(base, exponent, modulus)"
    return a.modular_power(*(_integer(a, v, usage) for v in (base, exponent, modulus)))


def _by_float(usage: str, function: Callable[..., float], arguments: int = 1) -> Function:
    return Function(usage, lambda a, *v: a.by_float(function, *v), arguments, arguments)


def _circular(usage: str, function: Callable[[float], float]) -> Function:
    return Function(usage, lambda a, v: a.circular(function, v))


def _hypot(a: Arithmetic, values: list[Number]) -> Number:
    return a.sqrt(_sum(a, [a.multiply(v, v) for v in values]))


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "abs": Function("abs(x)", lambda a, v: a.negate(v) if v < 0 else v),
        "round": Function("round(x, digits)", _round, 1, 2),
        "floor": Function("floor(x)", Arithmetic.floor),
        "ceil": Function("ceil(x)", Arithmetic.ceil),
        "trunc": Function("trunc(x)", Arithmetic.truncate),
        "pow": Function("pow(base, exponent, modulus)", _power, 2, 3),
        "sqrt": Function("sqrt(x)", Arithmetic.sqrt),
        "cbrt": _by_float("cbrt(x)", math.cbrt),
        "exp": Function("exp(x)", Arithmetic.exp),
        "ln": Function("ln(x)", Arithmetic.ln),
        "log": Function("log(x, base)", _log, 1, 2),
        "log2": Function("log2(x)", lambda a, v: a.log(v, 2)),
        "log10": Function("log10(x)", lambda a, v: a.log(v, 10)),
        "sin": _circular("sin(radians)", math.sin),
        "cos": _circular("cos(radians)", math.cos),
        "tan": _circular("tan(radians)", math.tan),
        "asin": _by_float("asin(x)", math.asin),
        "acos": _by_float("acos(x)", math.acos),
        "atan": _by_float("atan(x)", math.atan),
        "atan2": _by_float("atan2(y, x)", math.atan2, 2),
        "sinh": _by_float("sinh(x)", math.sinh),
        "cosh": _by_float("cosh(x)", math.cosh),
        "tanh": _by_float("tanh(x)", math.tanh),
        "radians": Function("radians(degrees)", lambda a, v: a.multiply(a.divide(v, 180), PI)),
        "degrees": Function("degrees(radians)", lambda a, v: a.divide(a.multiply(v, 180), PI)),
        "hypot": Function("hypot(x, y, …)", _hypot, variadic=True),
        "factorial": Function("factorial(n)", Arithmetic.factorial, integers=True),
        "comb": Function("comb(n, k)", Arithmetic.combinations, 2, 2, integers=True),
        "perm": Function("perm(n, k)", Arithmetic.permutations, 2, 2, integers=True),
        "isqrt": Function("isqrt(n)", Arithmetic.integer_root, integers=True),
        "gcd": Function("gcd(a, b, …)", lambda a, v: reduce(a.greatest_common_divisor, v, 0), integers=True, variadic=True),
        "lcm": Function("lcm(a, b, …)", lambda a, v: reduce(a.least_common_multiple, v, 1), integers=True, variadic=True),
        "xor": Function("xor(a, b)", lambda _, x, y: bitwise("xor")(x, y), 2, 2, integers=True),
        "min": Function("min(a, b, …)", lambda a, v: min(v, key=a.exact_decimal), variadic=True),
        "max": Function("max(a, b, …)", lambda a, v: max(v, key=a.exact_decimal), variadic=True),
        "sum": Function("sum(a, b, …)", _sum, variadic=True),
        "prod": Function("prod(a, b, …)", _product, variadic=True),
        "mean": Function("mean(a, b, …)", _mean, variadic=True),
        "median": Function("median(a, b, …)", _median, variadic=True),
        "variance": Function("variance(a, b, …)", _variance, variadic=True),
        "stdev": Function("stdev(a, b, …)", lambda a, v: a.sqrt(_variance(a, v)), variadic=True),
    }
)
