"""What a change in the middle of a period costs: credit the rest of the old, charge the rest of the
new, two lines of one rounding each.

The preview and the change itself call the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from billing.rules.money import ZERO, Exact, Rounding, Unit, quantize, split
from billing.rules.periods import Span, fraction
from billing.rules.totals import tax_of


@dataclass(frozen=True, slots=True)
class Discount:
    """Taken off a price before proration: a percentage, or a fixed amount capped at the price."""

    percent: Exact = 0
    fixed: Exact = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """A price over one whole period."""

    price: Exact
    period: Span
    discount: Discount | None = None


@dataclass(frozen=True, slots=True)
class PlanChange:
    """Two booked lines: `credit` for the old plan's rest, `debit` for the new plan's."""

    credit: Decimal  # positive
    debit: Decimal

    @property
    def net(self) -> Decimal:
        """What the customer owes for the change; negative when money comes back."""
        return self.debit - self.credit


def discounted(price: Exact, discount: Discount | None) -> Fraction:
    """The exact price after its discount, never below zero.

    >>> discounted(Decimal(100), Discount(percent=25))
    Fraction(75, 1)
    """
    exact = Fraction(price)
    if discount is None:
        return exact
    rest = exact - exact * Fraction(discount.percent) / 100 - Fraction(discount.fixed)
    return max(rest, Fraction(0))


def plan_change(
    old: Terms, new: Terms, on: date, unit: Unit, *, rounding: Rounding = "half_up"
) -> PlanChange:
    """Move from one plan to another on a day, the first of the new plan.

    With the same interval both have the same period; with another one the new period starts on
    that day, and the new plan is charged in full.

    >>> june = Span(date(2025, 6, 1), date(2025, 7, 1))
    >>> plan_change(Terms(100, june), Terms(300, june), date(2025, 6, 16), "EUR").net
    Decimal('100.00')
    """
    return PlanChange(
        credit=quantize(_rest(old, on), unit, rounding=rounding),
        debit=quantize(_rest(new, on), unit, rounding=rounding),
    )


def quantity_change(
    unit_price: Exact,
    *,
    old_quantity: Exact,
    new_quantity: Exact,
    period: Span,
    on: date,
    unit: Unit,
    rounding: Rounding = "half_up",
) -> Decimal:
    """The prorated difference of a change of quantity (seats); negative is a credit."""
    difference = (Fraction(new_quantity) - Fraction(old_quantity)) * Fraction(unit_price)
    return quantize(_rest(Terms(difference, period), on), unit, rounding=rounding)


def components(
    prices: Sequence[Decimal],
    *,
    discount: Discount | None,
    period: Span,
    served: Span,
    unit: Unit,
    rounding: Rounding = "half_up",
) -> list[Decimal]:
    """Prorate the priced parts of a plan one by one.

    A fixed discount is shared over them first, a percentage is taken off each.
    """
    percent = Discount(percent=discount.percent if discount else 0)
    fixed = [ZERO] * len(prices)
    if discount and discount.fixed:
        capped = min(quantize(discount.fixed, unit), sum(prices, ZERO))
        fixed = split(capped, prices, unit)
    part = fraction(served, period)
    return [
        quantize(discounted(price - share, percent) * part, unit, rounding=rounding)
        for price, share in zip(prices, fixed, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class TerminationCredit:
    """What the unused days give back."""

    net: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        """Net and VAT."""
        return self.net + self.tax


def termination_credit(
    price: Exact,
    *,
    period: Span,
    unused_from: date,
    tax_rate: Exact,
    unit: Unit,
    rounding: Rounding = "half_up",
) -> TerminationCredit:
    """Credit the days from `unused_from` to the period's end of a fee billed in advance."""
    net = quantize(_rest(Terms(price, period), unused_from), unit, rounding=rounding)
    return TerminationCredit(net, tax_of(net, tax_rate, unit, rounding=rounding))


def _rest(terms: Terms, on: date) -> Fraction:
    remaining = terms.period.within(on, None)
    return discounted(terms.price, terms.discount) * fraction(remaining, terms.period)
