"""The one rounding site: amounts become booked money here, and nowhere else.

A rule returns an exact `Decimal` or `Fraction`; `quantize` is called once per amount.
"""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Final, Literal

Exact = Decimal | Fraction | int  # an amount that has not been rounded
Rounding = Literal["half_up", "half_even"]

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
_MODES: Final = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN, "floor": ROUND_FLOOR}
_WIDE: Final = Context(prec=200)  # wide enough that only the wanted rounding ever happens


def exponent(currency: str) -> int:
    """Decimal places of a currency's minor unit, by ISO 4217.

    >>> exponent("EUR"), exponent("JPY"), exponent("KWD")
    (2, 0, 3)
    """
    if len(currency) != 3 or not currency.isalpha() or not currency.isupper():
        raise ValueError(f"not an ISO 4217 currency code: {currency!r}")
    return _EXPONENTS.get(currency, 2)


def quantize(amount: Exact, currency: str, *, rounding: Rounding = "half_up") -> Decimal:
    """Round an exact amount to the currency's minor unit, ties away from zero.

    `rounding` is read for foreign documents only; no screen offers it.

    >>> quantize(Decimal("1.005"), "EUR"), quantize(Fraction(-5, 2), "JPY")
    (Decimal('1.01'), Decimal('-3'))
    """
    return quantize_places(amount, exponent(currency), rounding=rounding)


def quantize_credits(amount: Exact) -> Decimal:
    """Round an exact number of credits to the six places the ledger keeps.

    >>> quantize_credits(Fraction(1, 3))
    Decimal('0.333333')
    """
    return quantize_places(amount, CREDIT_PLACES)


def quantize_places(
    amount: Exact, places: int, *, rounding: Literal["half_up", "half_even", "floor"] = "half_up"
) -> Decimal:
    """Round an exact amount to `places` decimals; never returns a negative zero."""
    if isinstance(amount, Fraction):
        rounded = _round_fraction(amount, places, rounding)
    else:
        unit = Decimal(1).scaleb(-places)
        rounded = Decimal(amount).quantize(unit, rounding=_MODES[rounding], context=_WIDE)
    return rounded.copy_abs() if rounded.is_zero() else rounded


def minor_unit(currency: str) -> Decimal:
    """The smallest coin of a currency.

    >>> minor_unit("EUR")
    Decimal('0.01')
    """
    return Decimal(1).scaleb(-exponent(currency))


def split(amount: Decimal, weights: Sequence[Exact], currency: str) -> list[Decimal]:
    """Share a booked amount in proportion to `weights`; the shares sum to it exactly.

    Largest remainder; ties go to the earlier share. Weights must not be negative, and a sum of
    zero can only share zero.

    >>> split(Decimal("1.00"), [1, 1, 1], "EUR")
    [Decimal('0.34'), Decimal('0.33'), Decimal('0.33')]
    """
    return split_places(amount, weights, exponent(currency))


def split_places(amount: Decimal, weights: Sequence[Exact], places: int) -> list[Decimal]:
    """`split` at a given number of decimals, for currencies and credits alike."""
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
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_remainder[: whole - sum(counts)]:
        counts[index] += 1
    sign = -1 if coins < 0 else 1
    return [_coins(sign * count, places) for count in counts]


def _coins(count: int, places: int) -> Decimal:
    return Decimal(count).scaleb(-places, context=_WIDE)


def _round_fraction(amount: Fraction, places: int, rounding: str) -> Decimal:
    scaled = amount * 10**places
    if rounding == "floor":
        return _coins(scaled.numerator // scaled.denominator, places)
    magnitude = abs(scaled)
    count, rest = divmod(magnitude.numerator, magnitude.denominator)
    twice = 2 * rest
    tie_goes_up = rounding == "half_up" or count % 2 == 1
    if twice > magnitude.denominator or (twice == magnitude.denominator and tie_goes_up):
        count += 1
    return _coins(-count if scaled < 0 else count, places)
