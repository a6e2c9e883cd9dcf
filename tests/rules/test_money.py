"""Rounding and sharing: no coin is lost, none is made."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import money
from billing.rules.money import plain, quantize, split

amounts = st.decimals(min_value=-(10**12), max_value=10**12, places=8)
currencies = st.sampled_from(["EUR", "JPY", "KWD"])
booked = st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents).scaleb(-2))
weights = st.lists(st.fractions(0, 1000, max_denominator=1000), min_size=1, max_size=12)
MODES = {
    "half_up": ROUND_HALF_UP,
    "half_even": ROUND_HALF_EVEN,
    "floor": ROUND_FLOOR,
    "ceiling": ROUND_CEILING,
    "up": ROUND_UP,
}


@pytest.mark.parametrize(
    ("exact", "currency", "rounded"),
    [
        ("0.005", "EUR", "0.01"),
        ("-0.005", "EUR", "-0.01"),
        ("0.004999999999999999999999999999999999", "EUR", "0.00"),
        ("2.5", "JPY", "3"),
        ("0.0005", "KWD", "0.001"),
        ("-0.001", "EUR", "0.00"),
        (
            "12345678901234567890123456789012345.675",
            "EUR",
            "12345678901234567890123456789012345.68",
        ),
    ],
)
def test_ties_go_away_from_zero_at_the_currency_s_exponent(exact, currency, rounded):
    assert str(quantize(Decimal(exact), currency)) == rounded
    assert str(quantize(Fraction(exact), currency)) == rounded


@given(amounts, st.sampled_from(sorted(MODES)), st.integers(0, 6))
def test_fractions_and_decimals_round_alike(amount, mode, places):
    decimal = amount.quantize(Decimal(1).scaleb(-places), rounding=MODES[mode])
    assert quantize(Fraction(amount), places, rounding=mode) == decimal
    assert quantize(amount, places, rounding=mode) == decimal


@given(st.fractions(max_denominator=10**9), currencies)
def test_rounding_moves_by_half_a_coin_at_most_and_only_once(exact, currency):
    rounded = quantize(exact, currency)
    assert abs(Fraction(rounded) - exact) * 2 <= Fraction(money.minor_unit(currency))
    assert quantize(rounded, currency) == rounded


@given(booked, weights)
def test_shares_sum_to_the_amount(amount, shares):
    if not sum(shares):
        return
    parts = split(amount, shares, "EUR")
    assert sum(parts) == amount
    for part, share in zip(parts, shares, strict=True):
        exact = Fraction(amount) * share / sum(shares)
        assert abs(Fraction(part) - exact) < Fraction(1, 100)
        assert not (share == 0 and part)


@given(booked, weights)
def test_a_negative_amount_is_shared_like_its_opposite(amount, shares):
    if sum(shares):
        mirrored = [-part for part in split(-amount, shares, "EUR")]
        assert split(amount, shares, "EUR") == mirrored


def test_ties_go_to_the_earlier_line():
    assert split(Decimal("0.02"), [1, 1, 1], "EUR") == [Decimal("0.01")] * 2 + [Decimal(0)]


def test_nothing_is_shared_over_nothing():
    assert split(Decimal("0.00"), [0, 0], "EUR") == [0, 0]
    with pytest.raises(ValueError, match="nothing to share"):
        split(Decimal("0.01"), [0, 0], "EUR")
    with pytest.raises(ValueError, match="negative"):
        split(Decimal("0.01"), [1, -1], "EUR")
    with pytest.raises(ValueError, match="decimals"):
        split(Decimal("0.001"), [1], "EUR")


def test_a_currency_has_three_capitals():
    for wrong in ("eur", "EURO", "", "€"):
        with pytest.raises(ValueError, match="ISO 4217"):
            money.exponent(wrong)


@given(amounts)
def test_plain_text_loses_nothing(amount):
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text
