"""Coupons and discounts in money: before tax, capped, and shared over the lines they may touch.

Scoped coupons come before general ones; each is taken from what the earlier ones left. A fixed
amount is shared by largest remainder, so that every line knows its own part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.rules.money import ZERO, Exact, Unit, quantize, split


@dataclass(frozen=True, slots=True)
class Coupon:
    """A fixed amount or a percentage. `lines` are the positions it may touch, None for all."""

    amount: Decimal | None = None
    percent: Exact | None = None
    already_used: Decimal = ZERO  # of a fixed amount, on earlier invoices
    lines: frozenset[int] | None = None

    def value(self, base: Decimal, unit: Unit) -> Decimal:
        """What it takes off a base: rounded, capped at the base."""
        if self.percent is not None:
            off = quantize(Fraction(base) * Fraction(self.percent) / 100, unit)
        else:
            off = max((self.amount or ZERO) - self.already_used, ZERO)
        return min(off, max(base, ZERO))


def shares(coupon: Coupon, nets: Sequence[Decimal], unit: Unit) -> list[Decimal]:
    """The coupon's part of each line; lines at or below zero take none.

    >>> shares(Coupon(amount=Decimal("0.06")), [Decimal("2.00"), Decimal("1.00")], "EUR")
    [Decimal('0.04'), Decimal('0.02')]
    """
    bases = [
        max(net, ZERO) if coupon.lines is None or position in coupon.lines else ZERO
        for position, net in enumerate(nets)
    ]
    return split(coupon.value(sum(bases, ZERO), unit), bases, unit)


def apply(coupons: Sequence[Coupon], nets: Sequence[Decimal], unit: Unit) -> list[list[Decimal]]:
    """Per coupon, in the order applied (scoped before general), its part of each line."""
    left = list(nets)
    taken = []
    for coupon in sorted(coupons, key=lambda c: c.lines is None):
        parts = shares(coupon, left, unit)
        left = [net - part for net, part in zip(left, parts, strict=True)]
        taken.append(parts)
    return taken


def percent_per_line(percent: Exact, nets: Sequence[Decimal], unit: Unit) -> list[Decimal]:
    """A percentage taken off line by line, each rounded; lines are not pooled."""
    return [quantize(Fraction(net) * Fraction(percent) / 100, unit) for net in nets]


def capped_shares(amount: Decimal, weights: Sequence[Decimal], unit: Unit) -> list[Decimal]:
    """A fixed discount over amounts, never more than their sum."""
    return split(min(amount, sum(weights, ZERO)), weights, unit)
