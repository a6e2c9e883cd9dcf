"""The one rounding site: amounts become booked money here, and nowhere else.

A rule returns an exact `Decimal` or `Fraction`; `quantize` is called once per amount.
"""

from collections.abc import Sequence
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
)
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

Exact = Decimal | Fraction | int  # an amount that has not been rounded
Unit = str | int  # an ISO 4217 code, or a number of decimals (credits, foreign documents)
Rounding = Literal["half_up", "half_even", "floor", "ceiling", "down", "up"]

CREDIT_PLACES: Final = 6
ZERO: Final = Decimal(0)

# ISO 4217 currencies whose minor unit is not a hundredth.
_EXPONENTS: Final = {
    currency: places
    for places, currencies in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }.items()
    for currency in currencies.split()
}
_MODES: Final[dict[Rounding, str]] = {
    "half_up": ROUND_HALF_UP,  # ties away from zero
    "half_even": ROUND_HALF_EVEN,
    "floor": ROUND_FLOOR,
    "ceiling": ROUND_CEILING,
    "down": ROUND_DOWN,  # towards zero
    "up": ROUND_UP,  # away from zero
}
_PLACES_SHOWN_MAX: Final = 40
_PLACES_SHOWN: Final = 12
_WIDE: Final = Context(prec=200)  # wide enough that only the wanted rounding ever happens


def exponent(unit: Unit) -> int:
    """Decimal places of a currency's minor unit, by ISO 4217.

    >>> exponent("EUR"), exponent("JPY"), exponent("KWD"), exponent(6)
    (2, 0, 3, 6)
    """
    if isinstance(unit, int):
        return unit
    if len(unit) != 3 or not unit.isalpha() or not unit.isupper():
        raise ValueError(f"not an ISO 4217 currency code: {unit!r}")
    return _EXPONENTS.get(unit, 2)


def quantize(amount: Exact, unit: Unit, *, rounding: Rounding = "half_up") -> Decimal:
    """Round an exact amount to the currency's minor unit, ties away from zero.

    Never returns a negative zero. Other modes of `rounding` are for quantities and for reading
    foreign documents; no screen offers them for money.

    >>> quantize(Decimal("1.005"), "EUR"), quantize(Fraction(-5, 2), "JPY")
    (Decimal('1.01'), Decimal('-3'))
    """
    places = exponent(unit)
    if isinstance(amount, Fraction):
        rounded = _round_fraction(amount, places, rounding)
    else:
        exact = amount if isinstance(amount, Decimal) else Decimal(amount)
        rounded = exact.quantize(_step(places), rounding=_MODES[rounding], context=_WIDE)
    return rounded.copy_abs() if rounded.is_zero() else rounded


@lru_cache
def _step(places: int) -> Decimal:
    return Decimal(1).scaleb(-places)


def quantize_credits(amount: Exact) -> Decimal:
    """Round an exact number of credits to the six places the ledger keeps.

    >>> quantize_credits(Fraction(1, 3))
    Decimal('0.333333')
    """
    return quantize(amount, CREDIT_PLACES)


def minor_unit(unit: Unit) -> Decimal:
    """The smallest coin of a currency.

    >>> minor_unit("EUR")
    Decimal('0.01')
    """
    return Decimal(1).scaleb(-exponent(unit))


def split(
    amount: Decimal, weights: Sequence[Exact], unit: Unit, *, keys: Sequence[str] | None = None
) -> list[Decimal]:
    """Share a booked amount in proportion to `weights`; the shares sum to it exactly.

    Largest remainder; ties go to the earlier share, or in the order of `keys` where given.
    Weights must not be negative; weights of zero can only share zero.

    >>> split(Decimal("1.00"), [1, 1, 1], "EUR")
    [Decimal('0.34'), Decimal('0.33'), Decimal('0.33')]
    """
    places = exponent(unit)
    shares = [Fraction(weight) for weight in weights]
    if any(share < 0 for share in shares):
        raise ValueError("weights must not be negative")
    coins = Fraction(amount) * 10**places
    if coins.denominator != 1:
        raise ValueError(f"{amount} has more than {places} decimals")
    total = sum(shares, Fraction(0))
    if total == 0:
        if amount != 0:
            raise ValueError(f"nothing to share {amount} over")
        return [_coins(0, places) for _ in shares]
    whole = abs(int(coins))
    exact = [whole * share / total for share in shares]
    counts = [int(part) for part in exact]
    order: Sequence[int | str] = range(len(exact)) if keys is None else keys
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], order[i]))
    for index in by_remainder[: whole - sum(counts)]:
        counts[index] += 1
    sign = -1 if coins < 0 else 1
    return [_coins(sign * count, places) for count in counts]


def plain(amount: Exact) -> str:
    """An exact amount as text for explanations: all its decimals, or 12 where they never end.

    >>> plain(Fraction(1, 8)), plain(Decimal("10.00")), plain(Fraction(1, 3))
    ('0.125', '10', '0.333333333333')
    """
    if isinstance(amount, Decimal) and -int(amount.as_tuple().exponent) <= _PLACES_SHOWN_MAX:
        # Most amounts end, and this is asked for every figure of every line.
        return f"{amount.normalize(_WIDE):f}" if amount else "0"
    exact = Fraction(amount)
    places = 0
    while places < _PLACES_SHOWN_MAX and 10**places % exact.denominator:
        places += 1
    if 10**places % exact.denominator:
        places = _PLACES_SHOWN
    return f"{quantize(exact, places):f}"


def _coins(count: int, places: int) -> Decimal:
    return Decimal(count).scaleb(-places, context=_WIDE)


def _round_fraction(amount: Fraction, places: int, rounding: Rounding) -> Decimal:
    scaled = amount * 10**places
    count, rest = divmod(scaled.numerator, scaled.denominator)  # rest >= 0: rounded to the floor
    if rest and _goes_up(count, 2 * rest - scaled.denominator, rounding):
        count += 1
    return _coins(count, places)


def _goes_up(floor: int, past_half: int, rounding: Rounding) -> bool:
    """Whether a number between `floor` and the next integer rounds up; past_half 0 is a tie."""
    if rounding in ("floor", "ceiling"):
        return rounding == "ceiling"
    if rounding in ("down", "up"):
        return (rounding == "up") == (floor >= 0)
    if past_half:
        return past_half > 0
    return floor >= 0 if rounding == "half_up" else floor % 2 == 1
