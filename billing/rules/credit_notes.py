"""How much a credit note may give back, and the VAT that goes with it.

Per line at most what is left of the line; VAT per group; the note that exhausts a group takes the
VAT that remains, so an invoice credited in parts comes to exactly its total.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.rules.money import ZERO, Exact, Unit, quantize
from billing.rules.totals import tax_of


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is still creditable of one VAT group."""

    net: Decimal
    tax: Decimal


@dataclass(frozen=True, slots=True)
class Item:
    """Part of an invoice line that is credited, before its share of the line's discount."""

    amount: Decimal
    line_amount: Decimal
    line_discount: Exact = 0
    tax_rates: tuple[Decimal, ...] = ()  # percent; more than one where taxes stack


@dataclass(frozen=True, slots=True)
class NoteTotals:
    """The figures of a credit note, positive."""

    discount: Decimal  # taken back with the items
    net: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        """Net and VAT."""
        return self.net + self.tax


def group_tax(net: Decimal, rate: Exact, left: Remaining, unit: Unit) -> Decimal:
    """The VAT of a note over `net` of a group; raise ValueError above what is left of it.

    >>> group_tax(Decimal("32.33"), 20, Remaining(Decimal("32.33"), Decimal("6.45")), "EUR")
    Decimal('6.45')
    """
    if net > left.net:
        raise ValueError(f"only {left.net} of this group is left to credit, not {net}")
    if net == left.net:
        return left.tax
    return min(tax_of(net, rate, unit), left.tax)


def sequence(
    invoice: Remaining, rate: Exact, nets: Sequence[Decimal], unit: Unit
) -> list[NoteTotals]:
    """Credit one group in several notes."""
    notes = []
    left = invoice
    for net in nets:
        tax = group_tax(net, rate, left, unit)
        left = Remaining(left.net - net, left.tax - tax)
        notes.append(NoteTotals(ZERO, net, tax))
    return notes


def note_totals(items: Sequence[Item], unit: Unit) -> NoteTotals:
    """The totals of a note over parts of lines, less the same parts of the lines' discounts."""
    if any(item.amount > item.line_amount for item in items):
        raise ValueError("a credit note cannot give back more than the line")
    discounts = [
        quantize(
            Fraction(item.amount) * Fraction(item.line_discount) / Fraction(item.line_amount), unit
        )
        if item.line_amount
        else ZERO
        for item in items
    ]
    groups: dict[Decimal, Decimal] = {}
    for item, discount in zip(items, discounts, strict=True):
        for rate in item.tax_rates:
            groups[rate] = groups.get(rate, ZERO) + item.amount - discount
    zero = quantize(0, unit)
    discount = sum(discounts, zero)
    return NoteTotals(
        discount=discount,
        net=sum((item.amount for item in items), zero) - discount,
        tax=sum((tax_of(net, rate, unit) for rate, net in groups.items()), zero),
    )


@dataclass(frozen=True, slots=True)
class TerminationSplit:
    """A credit for unused service, and how it reaches the customer."""

    net: Decimal
    tax: Decimal
    refund: Decimal  # goes back as money
    remainder: Decimal  # reduces what is due, or becomes customer money

    @property
    def total(self) -> Decimal:
        """Net and VAT."""
        return self.net + self.tax


def termination_split(
    *,
    fee_net: Decimal,
    fee_discount: Exact,
    used_net: Decimal,
    unused_net: Decimal,
    credited_net: Decimal,
    tax_rate: Exact,
    invoice_gross: Decimal,
    paid: Decimal,
    unit: Unit,
) -> TerminationSplit:
    """Credit the unused part of a fee; refund what was paid for it beyond the use.

    Of the payments the fee has the share of its gross in the invoice's gross.
    credited_net: already credited of the unused part.
    """
    kept = 1 - Fraction(fee_discount) / Fraction(fee_net) if fee_net else Fraction(0)
    with_tax = 1 + Fraction(tax_rate) / 100
    net = quantize(max(Fraction(unused_net) - Fraction(credited_net), Fraction(0)) * kept, unit)
    tax = tax_of(net, tax_rate, unit)
    fee_gross = Fraction(fee_net) * kept * with_tax
    share = Fraction(paid) * fee_gross / Fraction(invoice_gross) if invoice_gross else Fraction(0)
    beyond_use = quantize(max(share - Fraction(used_net) * kept * with_tax, Fraction(0)), unit)
    refund = min(beyond_use, net + tax)
    return TerminationSplit(net, tax, refund, net + tax - refund)


def refund_taxes(order: Remaining, refunds: Sequence[Decimal], unit: Unit) -> list[Decimal]:
    """The VAT of refunds given net, in proportion; the one that exhausts the net takes the rest."""
    taxes = []
    left = order
    for net in refunds:
        if net > left.net:
            raise ValueError(f"only {left.net} is left to refund, not {net}")
        if net == left.net:
            tax = left.tax
        else:
            tax = quantize(Fraction(net) * Fraction(order.tax) / Fraction(order.net), unit)
        tax = min(tax, left.tax)
        left = Remaining(left.net - net, left.tax - tax)
        taxes.append(tax)
    return taxes
