"""The calculator: exact where Python is exact, and never a cost that was not bounded first."""

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from decimal import Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralink.servers.toolbox.calculator import calculate
from auralink.servers.toolbox.errors import CalculationRefused
from auralink.servers.toolbox.functions import CONSTANTS, FUNCTIONS


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", "7"),
        ("0.1 + 0.2", "0.3"),
        ("6 / 3", "2"),
        ("1 / 3", "0." + "3" * 34),
        ("2 ** 100", str(2**100)),
        ("-7 // 2", "-4"),
        ("-7.5 % 2", "0.5"),
        ("7.5 % -2", "-0.5"),
        ("0x1F + 0b11 + 0o7", "41"),
        ("1_000 * 2", "2000"),
        ("2 × 3 − 1 ÷ 2", "5.5"),
        ("3 < 4 <= 4", "true"),
        ("1 == 1.0", "true"),
        ("1e3", "1000"),
        ("1e-30", "1e-30"),
        ("1.50", "1.5"),
        ("-0.0", "0"),
        ("~5 & 0xFF | 1", "251"),
        ("1 << 10 >> 3", "128"),
        ("1\n+\n1", "2"),
    ],
)
def test_arithmetic_has_the_value_that_paper_gives(expression: str, result: str) -> None:
    assert calculate(expression).result == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("sqrt(16)", "4"),
        ("2 ** 0.5 == sqrt(2)", "true"),
        ("sin(radians(30))", "0.5"),
        ("cos(pi / 2)", "0"),
        ("sin(pi)", "0"),
        ("tan(pi / 4)", "1"),
        ("degrees(pi)", "180"),
        ("degrees(acos(0))", "90"),
        ("log2(1024)", "10"),
        ("log10(1000)", "3"),
        ("log(8, 2)", "3"),
        ("ln(1)", "0"),
        ("exp(0)", "1"),
        ("factorial(20)", str(math.factorial(20))),
        ("comb(52, 5)", "2598960"),
        ("perm(10, 3)", "720"),
        ("gcd(12, 18, 27)", "3"),
        ("lcm(4, 6, 10)", "60"),
        ("isqrt(17)", "4"),
        ("pow(3, 200, 1000007)", str(pow(3, 200, 1000007))),
        ("pow(3, -1, 7)", "5"),
        ("max(1, 2.5, 2)", "2.5"),
        ("min([3, 1, 2])", "1"),
        ("sum(0.1, 0.1, 0.1)", "0.3"),
        ("mean([1, 2, 3, 4])", "2.5"),
        ("median(5, 1, 3)", "3"),
        ("stdev(2, 4, 4, 4, 5, 5, 7, 9) ** 2 * 7", "32"),
        ("hypot(3, 4)", "5"),
        ("round(2.675, 2)", "2.68"),
        ("round(1234.5, -2)", "1200"),
        ("round(2.5)", "2"),
        ("floor(-1.5)", "-2"),
        ("ceil(1.2)", "2"),
        ("trunc(-1.5)", "-1"),
        ("abs(-3)", "3"),
        ("xor(6, 3)", "5"),
    ],
)
def test_functions_have_their_textbook_values(expression: str, result: str) -> None:
    assert calculate(expression).result == result


def test_the_answer_says_whether_it_is_exact() -> None:
    assert calculate("10**30 + 1").exact
    assert calculate("0.1 * 3").exact
    assert calculate("round(2.567, 1)").exact
    assert not calculate("1 / 3").exact
    assert not calculate("sin(1)").exact
    assert not calculate("2 * pi").exact


def test_a_long_sum_is_not_a_deep_one() -> None:
    assert calculate("+".join(["1"] * 500)).result == "500"


NASTY = [
    "9**9**9",
    "9**9**9**9**9",
    "(-9)**9**9",
    "10**(10**10)",
    "2**14281",
    "0.5**-(10**9) * 9.9**(10**9)",
    "9.9**(10**400)",
    "1 << 10**9",
    "1 << (1 << 60)",
    "factorial(10**9)",
    "factorial(factorial(9))",
    "factorial(10**200)",
    "comb(10**30, 10**29)",
    "comb(10**9, 5*10**8)",
    "perm(10**9, 10**8)",
    "pow(3, 2**4000, 2**4000 + 1)",
    "lcm(2**9000, 3**5000)",
    "prod(" + ",".join(["10**99"] * 100) + ")",
    "exp(10**4000)",
    "exp(exp(exp(10)))",
    "1e999999999",
    "1e5000",
    "1e4000 * 1e4000",
    "9" * 1001,
    "1." + "9" * 1000,
    "(" * 250 + "1" + ")" * 250,
    "[" * 150 + "]" * 150,
    "-" * 900 + "1",
    "~" * 900 + "1",
    "abs(" * 150 + "1" + ")" * 150,
    "2**" * 300 + "2",
    "(" * 990,
    "+".join(["comb(14000,7000)"] * 58),
    "+".join(["pow(3,-1,2**14000+1)"] * 45),
    "sin(10**300)",
    "round(1, 10**9)",
    "gcd(2.5, 5)",
    "1 / 0",
    "1 % 0",
    "0 ** -1",
    "0.0 / 0.0",
    "(-8) ** (1 / 3)",
    "sqrt(-1)",
    "ln(0)",
    "log(5, 1)",
    "asin(2)",
    "tan(pi / 2)",
    "stdev(1)",
    "min([])",
    "1e4290 * 10",
    "10**40 % 0.3",
    "",
    "   ",
    "\0",
    "1\0",
    "1 +",
    "1 2",
    "2pi",
    "5!",
    "10^2",
    "007",
    "1__0",
    "1.5.2",
    "1j",
    "1,2",
    "[1, 2]",
    "[1] * 10**9",
    "'a' * 10**9",
    "True",
    "None",
    "inf",
    "nan",
    "x",
    "sqrt",
    "max",
    "__import__('os').system('id')",
    "().__class__.__base__.__subclasses__()",
    "(1).real",
    "open",
    "open(1)",
    "eval(1)",
    "lambda: 1",
    "[i for i in [1]]",
    "1 if 1 else 2",
    "(a := 1)",
    "1 and 2",
    "not 1",
    "1 in [1]",
    "1 is 1",
    "max(1, key=abs)",
    "sum(*[1])",
    "sum([[1]])",
    "sum(1 < 2)",
    "(1 < 2) + 1",
    "abs(1, 2)",
    "abs()",
    "f'{1}'",
    "await 1",
    "1; 1",
    "1 # comment",
    "１ + １",
    "\u202e1 + 1",
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("expression", NASTY, ids=lambda e: repr(e)[:40])
def test_what_is_not_arithmetic_or_costs_too_much_is_refused_with_a_next_step(expression: str) -> None:
    with pytest.raises(CalculationRefused) as refusal:
        calculate(expression)
    assert refusal.value.message.endswith(".")


DEAR = [
    "<=".join(["10**4000"] * 60),
    "median(" + ",".join(["10**4000", "1.5"] * 70) + ")",
    "+".join(["floor(1e4000)"] * 70),
    "+".join(["10**4000*.5"] * 80),
    "gcd(" + ",".join(["10**4000"] * 70) + ")",
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("expression", DEAR, ids=lambda e: e[:20])
def test_long_expressions_of_large_numbers_are_still_computed(expression: str) -> None:
    assert calculate(expression).result


@pytest.mark.parametrize("dear", ["comb(14000,7000)", "pow(3,2**1200+1,2**1250+1)", "pow(3**8000,-1,2**14000+1)"])
def test_work_is_refused_before_it_is_begun_when_the_budget_does_not_cover_it(dear: str) -> None:
    assert calculate(dear).result
    with pytest.raises(CalculationRefused, match="takes too long"):
        calculate("+".join([dear] * (999 // (len(dear) + 1))))


@given(st.text(alphabet="0123456789.eE+-*/%()<>=!&|~[], \nabx_piπ√×^\"'", max_size=60) | st.text(max_size=30))
def test_no_text_makes_it_do_anything_but_answer_or_refuse(expression: str) -> None:
    try:
        answer = calculate(expression)
    except CalculationRefused:
        return
    assert answer.result


@given(
    st.sampled_from(sorted(FUNCTIONS)),
    st.lists(st.sampled_from(["0", "-1", "2.5", "1e4000", "10**4000", "[]", "pi"]), max_size=4),
)
def test_every_function_answers_or_refuses_whatever_it_is_given(name: str, arguments: list[str]) -> None:
    with suppress(CalculationRefused):
        calculate(f"{name}({', '.join(arguments)})")


def test_every_name_that_is_offered_is_known_to_the_parser() -> None:
    assert not FUNCTIONS.keys() & CONSTANTS.keys()
    for function in FUNCTIONS.values():
        assert function.usage.split("(", maxsplit=1)[0] in FUNCTIONS


Tree = tuple[str, int]
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
}


def _combined(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    def binary(name: str, left: Tree, right: Tree) -> Tree:
        divides = name in {"//", "%"}
        right = ("7", 7) if divides and right[1] == 0 else right
        return f"({left[0]} {name} {right[0]})", _OPERATORS[name](left[1], right[1])

    def power(base: Tree, exponent: int) -> Tree:
        return f"({base[0]}) ** {exponent}", base[1] ** exponent

    return (
        st.builds(binary, st.sampled_from(sorted(_OPERATORS)), children, children)
        | st.builds(lambda tree: (f"-({tree[0]})", -tree[1]), children)
        | st.builds(power, children, st.integers(0, 3))
    )


_integers: st.SearchStrategy[Tree] = st.integers(0, 10**20).map(lambda n: (str(n), n))


@given(st.recursive(_integers, _combined, max_leaves=12).filter(lambda tree: len(tree[0]) <= 900))
def test_integers_agree_with_python(tree: Tree) -> None:
    expression, expected = tree
    answer = calculate(expression)
    assert (answer.result, answer.kind, answer.exact) == (str(expected), "integer", True)


_decimals = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, allow_infinity=False, places=9).map(abs)


def _rounded(value: Fraction) -> Decimal:
    return Context(prec=34).divide(Decimal(value.numerator), Decimal(value.denominator))


@given(_decimals, _decimals, st.sampled_from(["+", "-", "*", "/"]))
def test_decimals_agree_with_fractions_rounded_once(a: Decimal, b: Decimal, name: str) -> None:
    operation = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[name]
    if name == "/" and b == 0:
        return
    expected = operation(Fraction(a), Fraction(b))
    answer = calculate(f"{a:f} {name} {b:f}")
    assert Decimal(answer.result) == _rounded(expected)
    assert answer.exact == (Fraction(answer.result) == expected)


@given(_decimals, _decimals.filter(bool))
def test_decimal_quotient_and_remainder_are_those_of_floor_division(a: Decimal, b: Decimal) -> None:
    for left, right in ((a, b), (-a, b), (a, -b)):
        quotient = Fraction(left) // Fraction(right)
        assert Fraction(calculate(f"({left:f}) // ({right:f})").result) == quotient
        assert Fraction(calculate(f"({left:f}) % ({right:f})").result) == Fraction(left) - quotient * Fraction(right)


@given(st.integers(0, 1400), st.integers(0, 300), st.integers(0, 60))
def test_counting_functions_agree_with_the_standard_library(n: int, k: int, shift: int) -> None:
    assert calculate(f"factorial({n})").result == str(math.factorial(n))
    assert calculate(f"comb({n}, {k})").result == str(math.comb(n, k))
    assert calculate(f"{n} << {shift} >> {k}").result == str(n << shift >> k)
    assert calculate(f"gcd({n}, {k})").result == str(math.gcd(n, k))


@given(
    st.floats(-100, 100, allow_nan=False).filter(lambda x: abs(x) > 1e-200),
    st.sampled_from(["sin", "cos", "atan", "tanh", "exp"]),
)
def test_real_functions_agree_with_the_c_library(x: float, name: str) -> None:
    answer = float(calculate(f"{name}({Decimal(repr(x)):f})").result)
    assert math.isclose(answer, getattr(math, name)(x), rel_tol=1e-12, abs_tol=1e-12)
