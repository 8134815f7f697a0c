"""Arithmetic whose cost is known before it is paid: exact integers up to `MAX_BITS`, decimals of `PRECISION` digits.

Two kinds of number exist. An `int` is exact; before an operation that grows it, the size of the result is estimated from the
sizes of the operands, and refused when it would not fit. A `Decimal` has 34 significant digits (the precision of IEEE 754
decimal128) and a bounded exponent, so each operation on it costs the same. There are no floats, no complex numbers, no infinity
and no NaN.
"""

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)

from auralink.servers.toolbox.errors import CalculationRefused

Number = int | Decimal

PRECISION = 34
# 4,299 digits: everything that fits can also be printed (Python prints integers up to 4,300 digits).
MAX_BITS = 14_280
MAX_EXPONENT = 4_290
# Bits of the exponent times the square of the bits of the modulus: what modular exponentiation costs (about 20 ms at most).
MAX_MODPOW_WORK = 2_000_000_000
# What one calculation may cost. A unit is about 0.1 ms of a 2020s core; the prices below are measured, and charged before the
# operation. Not a clock: what is computed today is not refused tomorrow because the machine is busy.
BUDGET = 500.0
FLOAT_DIGITS = 15
MAX_ANGLE = 10**12


class Arithmetic:
    """The operations of one calculation, and whether any of them had to round."""

    def __init__(self) -> None:
        self._context = Context(
            prec=PRECISION,
            rounding=ROUND_HALF_EVEN,
            Emin=-MAX_EXPONENT,
            Emax=MAX_EXPONENT,
            traps=[InvalidOperation, DivisionByZero, Overflow, FloatOperation],
        )
        self._approximated = False
        self._floated = False
        self._budget = BUDGET

    def pay(self, units: float) -> None:
        """Takes the price of the next operation off the budget.

        Raises:
            CalculationRefused: the budget does not cover it.
        """
        self._budget -= units
        if self._budget < 0:
            raise CalculationRefused("The calculation takes too long. Split it into several calculations.")

    def exact_decimal(self, a: Number) -> Decimal:
        """The number as a decimal of as many digits as it has: the operation that follows rounds, once."""
        if isinstance(a, int):
            self.pay(a.bit_length() / 4_000)
            return Decimal(a)
        return a

    @property
    def exact(self) -> bool:
        """Whether every step so far was exact."""
        return not (self._approximated or self._context.flags[Inexact])

    def constant(self, value: Decimal) -> Decimal:
        """An irrational number, of which `value` holds the first `PRECISION` digits."""
        self._approximated = True
        return value

    def canonical(self, value: Decimal) -> Decimal:
        """The value as it is shown: only digits that can be relied on, no trailing zeros, no negative zero."""
        shown = Context(prec=FLOAT_DIGITS if self._floated else PRECISION)
        return value.normalize(shown) if value else Decimal(0)

    def literal(self, text: str) -> Decimal:
        """A decimal literal as written, rounded to `PRECISION` digits."""
        with _refusing(f"the number {_shortened(text)}"):
            return self._context.create_decimal(text.replace("_", ""))

    def add(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            _require_fit(max(a.bit_length(), b.bit_length()) + 1, "the sum")
            return a + b
        return self._decimal(self._context.add, a, b, "the sum")

    def subtract(self, a: Number, b: Number) -> Number:
        return self.add(a, self.negate(b))

    def negate(self, a: Number) -> Number:
        # copy_negate, not the context's minus: an operand is never rounded before the operation it belongs to.
        return -a if isinstance(a, int) else a.copy_negate() if a else a

    def multiply(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            _require_fit(a.bit_length() + b.bit_length(), "the product")
            return a * b
        return self._decimal(self._context.multiply, a, b, "the product")

    def divide(self, a: Number, b: Number) -> Number:
        """The quotient: an integer when it is one and both operands are, else a decimal."""
        _nonzero(b, "division by zero")
        if isinstance(a, int) and isinstance(b, int):
            quotient, rest = self.divmod(a, b)
            if rest == 0:
                return quotient
        return self._decimal(self._context.divide, a, b, "the quotient")

    def floor_divide(self, a: Number, b: Number) -> Number:
        return self.divmod(a, b)[0]

    def modulo(self, a: Number, b: Number) -> Number:
        return self.divmod(a, b)[1]

    def divmod(self, a: Number, b: Number) -> tuple[Number, Number]:
        """Floor quotient and remainder; the remainder has the sign of the divisor, for decimals as for integers."""
        _nonzero(b, "division by zero")
        if isinstance(a, int) and isinstance(b, int):
            self.pay(a.bit_length() / 10_000)
            return divmod(a, b)
        a, b = self.exact_decimal(a), self.exact_decimal(b)
        with _refusing(f"the remainder of numbers whose quotient has more than {PRECISION} digits"):
            quotient, rest = self._context.divmod(a, b)
            if rest and (rest < 0) != (b < 0):
                return self._context.subtract(quotient, Decimal(1)), self._context.add(rest, b)
            return quotient, rest

    def power(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            return self._integer_power(a, b)
        self.pay(1)
        if b == 0:
            return 1
        if b == Decimal("0.5"):
            return self.sqrt(a)
        if a == 0 and b < 0:
            raise CalculationRefused("0 to a negative power is a division by zero. Check the base.")
        if a < 0 and b != self.floor(b):
            raise CalculationRefused("A negative number to a fractional power is not real. Use abs() or an integer exponent.")
        return self._decimal(self._context.power, self.round_off(a), self.round_off(b), "the power")

    def _integer_power(self, base: int, exponent: int) -> Number:
        if exponent < 0:
            _nonzero(base, "0 to a negative power is a division by zero")
            return self.divide(1, self._integer_power(base, -exponent))
        # |base|**exponent has at least (bits - 1) * exponent bits; only where that fits is the logarithm worth taking.
        bits = (base.bit_length() - 1) * exponent
        if abs(base) > 1 and bits <= MAX_BITS:
            bits = int(exponent * math.log2(abs(base)))
        _require_fit(bits, "the power")
        self.pay(max(bits, 0) / 14_000)
        power: int = base**exponent
        return power

    def modular_power(self, base: int, exponent: int, modulus: int) -> int:
        """`base ** exponent % modulus` without the power in between."""
        _nonzero(modulus, "the modulus is zero")
        if exponent.bit_length() * modulus.bit_length() ** 2 > MAX_MODPOW_WORK:
            raise CalculationRefused("The modular power is too large to compute here. Use numbers of at most 1,200 bits.")
        self.pay(exponent.bit_length() * modulus.bit_length() ** 2 / 17_000_000)
        if exponent < 0:
            self.pay(modulus.bit_length() ** 2 / 1_600_000)
        try:
            return pow(base, exponent, modulus)
        except ValueError:
            raise CalculationRefused(f"{base} has no inverse modulo {modulus}. Check that they share no factor.") from None

    def shift(self, a: int, by: int) -> int:
        """`a * 2**by` for a positive `by`, rounded down for a negative one."""
        if by <= 0:
            return a >> min(-by, MAX_BITS + 1)
        _require_fit(a.bit_length() + by, "the shifted number")
        return a << by

    def factorial(self, n: int) -> int:
        if n < 0:
            raise CalculationRefused("factorial() is defined for integers from 0 on.")
        bits = _log2_factorial(n)
        _require_fit(bits, "the factorial")
        self.pay(bits / 7_000)
        return math.factorial(n)

    def combinations(self, n: int, k: int) -> int:
        _not_negative(n, k, "comb()")
        if k > n:
            return 0
        k = min(k, n - k)
        bits = k * n.bit_length()
        if n.bit_length() <= 50:
            bits = min(bits, _log2_factorial(n) - _log2_factorial(k) - _log2_factorial(n - k) + 1)
        _require_fit(bits, "the number of combinations")
        self.pay(1 + k * bits / 1_400_000)
        return math.comb(n, k)

    def permutations(self, n: int, k: int) -> int:
        _not_negative(n, k, "perm()")
        if k > n:
            return 0
        bits = (k - 1) * (n - k + 1).bit_length() if k else 0
        _require_fit(bits, "the number of permutations")
        self.pay(max(bits, 0) / 7_000)
        return math.perm(n, k)

    def greatest_common_divisor(self, a: int, b: int) -> int:
        self.pay(max(a.bit_length(), b.bit_length()) / 3_000)
        return math.gcd(a, b)

    def least_common_multiple(self, a: int, b: int) -> int:
        self.pay(max(a.bit_length(), b.bit_length()) / 3_000)
        _require_fit(a.bit_length() + b.bit_length(), "the least common multiple")
        return math.lcm(a, b)

    def sqrt(self, a: Number) -> Number:
        if a < 0:
            raise CalculationRefused("A negative number has no real square root. Use abs() first.")
        if isinstance(a, int) and (root := self.integer_root(a)) ** 2 == a:
            return root
        with _refusing("the square root"):
            return self._context.sqrt(self.exact_decimal(a))

    def integer_root(self, a: int) -> int:
        """The largest integer whose square is at most `a`."""
        if a < 0:
            raise CalculationRefused("A negative number has no real square root. Use abs() first.")
        self.pay(a.bit_length() / 14_000)
        return math.isqrt(a)

    def exp(self, a: Number) -> Number:
        with _refusing("the exponential"):
            return self._context.exp(self.round_off(a))

    def ln(self, a: Number) -> Number:
        _positive(a)
        with _refusing("the logarithm"):
            return self._context.ln(self.round_off(a))

    def log(self, a: Number, base: Number) -> Number:
        """The logarithm to a base; an integer when it is one."""
        _positive(a)
        _positive(base)
        if base == 1:
            raise CalculationRefused("There is no logarithm to base 1. Choose another base.")
        self.pay(2 + (a.bit_length() / 2_000 if isinstance(a, int) else 0))
        estimate = Arithmetic().divide(Arithmetic().ln(a), Arithmetic().ln(base))
        nearest = self.round(estimate)
        if isinstance(a, int) and isinstance(base, int) and isinstance(nearest, int) and nearest >= 0 and base**nearest == a:
            return nearest
        return self.divide(self.ln(a), self.ln(base))

    def floor(self, a: Number) -> int:
        return self._integral(a, ROUND_FLOOR)

    def ceil(self, a: Number) -> int:
        return self._integral(a, ROUND_CEILING)

    def truncate(self, a: Number) -> int:
        return self.floor(a) if a >= 0 else self.ceil(a)

    def _integral(self, a: Number, rounding: str) -> int:
        return a if isinstance(a, int) else self.to_int(a.to_integral_value(rounding=rounding))

    def to_int(self, a: Decimal) -> int:
        """A whole decimal as an integer."""
        self.pay(max(a.adjusted(), 0) / 800)
        return int(a)

    def round(self, a: Number, digits: int = 0) -> Number:
        """Rounds half to even; `digits` counts places after the decimal point and may be negative."""
        if abs(digits) > MAX_EXPONENT:
            raise CalculationRefused(f"round() takes at most {MAX_EXPONENT} places. Use fewer.")
        if isinstance(a, int):
            return a if digits >= 0 else round(a, digits)
        if a.adjusted() + digits >= PRECISION:
            return self.to_int(a) if digits <= 0 else a
        # A context of its own: rounding that was asked for does not make the result an approximation.
        rounded = a.quantize(Decimal((0, (1,), -digits)), rounding=ROUND_HALF_EVEN, context=Context(prec=PRECISION + 1))
        return self.to_int(rounded) if digits <= 0 else rounded

    def round_off(self, a: Number) -> Decimal:
        """The number as a decimal of at most `PRECISION` digits."""
        with _refusing("the number"):
            return self._context.plus(self.exact_decimal(a))

    def by_float(self, function: Callable[..., float], *arguments: Number) -> Decimal:
        """A function of the C library; of the value, `FLOAT_DIGITS` significant digits can be relied on.

        Raises:
            CalculationRefused: an argument is outside the function's domain or the range of a double.
        """
        self._approximated = self._floated = True
        try:
            value = function(*(float(a) for a in arguments))
        except (ValueError, OverflowError):
            raise CalculationRefused(
                f"{function.__name__}() is not defined, or too large, for that argument. Check its domain."
            ) from None
        return Decimal(repr(value))

    def circular(self, function: Callable[[float], float], angle: Number) -> Decimal:
        """sin, cos or tan of an angle in radians, without the digits that the angle cannot carry: sin(pi) is 0."""
        size = _magnitude(angle)
        if size > MAX_ANGLE:
            raise CalculationRefused(f"{function.__name__}() takes angles up to 10**12 radians. Reduce it modulo 2*pi.")
        value = self.by_float(function, angle)
        if abs(value) > Decimal(10) ** 14:
            raise CalculationRefused(f"{function.__name__}() is not defined at that angle.")
        if size < 1:
            return Decimal(f"{value:.{FLOAT_DIGITS}g}")
        places = FLOAT_DIGITS - 1 - max(0, len(str(int(size))) - 1)
        return Decimal(f"{value:.{places}f}") + 0

    def _decimal(self, operation: Callable[[Decimal, Decimal], Decimal], a: Number, b: Number, what: str) -> Decimal:
        with _refusing(what):
            return operation(self.exact_decimal(a), self.exact_decimal(b))


def bitwise(name: str) -> Callable[[int, int], int]:
    """`and_`, `or_` or `xor` of two integers; the result is never longer than the longer operand."""
    operation: Callable[[int, int], int] = getattr(operator, name)
    return operation


def _magnitude(a: Number) -> Number:
    return -a if a < 0 else a


def _require_fit(bits: int, what: str) -> None:
    if bits > MAX_BITS:
        raise CalculationRefused(
            f"Too large: {what} would have more than {_digits(MAX_BITS):,} digits. "
            "Use smaller numbers, pow(base, exponent, modulus), or decimals such as 9.0**99 for an approximation."
        )


def _digits(bits: int) -> int:
    return int(bits * math.log10(2))


def _log2_factorial(n: int) -> int:
    return MAX_BITS * 10**6 if n.bit_length() > 50 else int(math.lgamma(n + 1) / math.log(2))


def _nonzero(a: Number, problem: str) -> None:
    if a == 0:
        raise CalculationRefused(f"{problem[0].upper()}{problem[1:]}. Check the divisor.")


def _not_negative(n: int, k: int, function: str) -> None:
    if n < 0 or k < 0:
        raise CalculationRefused(f"{function} takes integers from 0 on.")


def _positive(a: Number) -> None:
    if a <= 0:
        raise CalculationRefused("Logarithms are defined for numbers greater than 0. Check the argument.")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}…"


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turns a signal of the decimal module into a refusal that says which result could not be."""
    try:
        yield
    except Overflow:
        raise CalculationRefused(f"Too large: {what} is beyond 10**{MAX_EXPONENT}. Use smaller numbers or logarithms.") from None
    except DecimalException:
        raise CalculationRefused(f"Not computable: {what}. Check the operands.") from None
