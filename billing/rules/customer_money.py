"""Money held for a customer, applied after tax to the gross, and the order in which it pays.

Lots and wallets pay by priority, free before paid, then the oldest. No line or invoice takes more
than its gross, so nothing goes below zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from billing.rules.money import ZERO, Exact, Unit, quantize
from billing.rules.totals import tax_of

_FUNDING: Final = {"free": 0, "paid": 1}


@dataclass(frozen=True, slots=True)
class Lot:
    """Money that arrived once and is used up in parts."""

    key: str
    left: Decimal
    priority: int
    funding: str  # free | paid
    created_at: datetime
    expires_at: datetime | None = None


def in_order(lots: Sequence[Lot]) -> list[Lot]:
    """The order in which lots pay."""
    return sorted(
        lots,
        key=lambda lot: (
            lot.priority,
            lot.expires_at is None,
            lot.expires_at.timestamp() if lot.expires_at else 0,
            _FUNDING[lot.funding],
            lot.created_at,
            lot.key,
        ),
    )


def draw(lots: Sequence[Lot], amount: Decimal) -> dict[str, Decimal]:
    """Which lot pays how much of a draw; raise ValueError when they hold less."""
    taken: dict[str, Decimal] = {}
    missing = amount
    for lot in in_order(lots):
        part = min(lot.left, missing)
        if part > 0:
            taken[lot.key] = part
            missing -= part
    if missing > 0:
        raise ValueError(f"{missing} more than the lots hold")
    return taken


def draw_all(
    lots: Sequence[Lot], draws: Sequence[tuple[str, Decimal]]
) -> tuple[dict[str, dict[str, Decimal]], dict[str, Decimal]]:
    """Draw after draw by key: what each took from which lot, and what is left of every lot."""
    left = {lot.key: lot.left for lot in lots}
    taken: dict[str, dict[str, Decimal]] = {}
    for key, amount in draws:
        taken[key] = draw([replace(lot, left=left[lot.key]) for lot in lots], amount)
        for lot, part in taken[key].items():
            left[lot] -= part
    return taken, left


@dataclass(frozen=True, slots=True)
class Wallet:
    """Money for some or all kinds of lines; no scope means all."""

    key: str
    priority: int
    left: Decimal
    currency: str
    kinds: frozenset[str] = frozenset()
    meters: frozenset[str] = frozenset()

    def pays(self, kind: str, meter: str | None) -> bool:
        """Whether the wallet may pay such a line."""
        if not self.kinds and not self.meters:
            return True
        return kind in self.kinds or meter in self.meters


@dataclass(frozen=True, slots=True)
class GrossLine:
    """A line with its VAT."""

    key: str
    kind: str
    gross: Decimal
    meter: str | None = None


@dataclass(slots=True)
class Allocation:
    """What each wallet paid."""

    by_wallet: dict[str, Decimal] = field(default_factory=dict)

    @property
    def applied(self) -> Decimal:
        """The sum paid."""
        return sum(self.by_wallet.values(), ZERO)


def allocate(
    wallets: Sequence[Wallet], lines: Sequence[GrossLine], *, total: Decimal, currency: str
) -> Allocation:
    """Wallets pay lines, by priority and then in the order given, up to the invoice's total."""
    due = {line.key: line.gross for line in lines}
    left = total
    result = Allocation()
    for wallet in sorted(wallets, key=lambda w: w.priority):
        if wallet.currency != currency:
            continue
        money = wallet.left
        for line in lines:
            part = min(money, due[line.key], left)
            if part > 0 and wallet.pays(line.kind, line.meter):
                due[line.key] -= part
                money -= part
                left -= part
        if money != wallet.left:
            result.by_wallet[wallet.key] = wallet.left - money
    return result


@dataclass(frozen=True, slots=True)
class Prepaid:
    """A small invoice paid from money held."""

    net: Decimal
    tax: Decimal
    applied: Decimal
    left: Decimal

    @property
    def gross(self) -> Decimal:
        """Net and VAT."""
        return self.net + self.tax

    @property
    def due(self) -> Decimal:
        """What is left to pay."""
        return self.gross - self.applied


def prepaid_invoice(
    amounts: Sequence[Exact], *, tax_rate: Exact, money: Decimal, unit: Unit
) -> Prepaid:
    """Lines rounded one by one, VAT once, then money up to the rounded gross."""
    net = sum((quantize(amount, unit) for amount in amounts), quantize(0, unit))
    tax = tax_of(net, tax_rate, unit)
    applied = min(money, net + tax)
    return Prepaid(net, tax, applied, money - applied)


def draw_down(money: Decimal, draws: Sequence[Decimal]) -> list[tuple[Decimal, Decimal]]:
    """Invoice after invoice draws its gross while money lasts: (money left, still due) each."""
    steps = []
    for gross in draws:
        applied = min(money, gross)
        money -= applied
        steps.append((money, gross - applied))
    return steps


def on_lines(
    totals: Sequence[Decimal], money: Mapping[str, Decimal]
) -> tuple[list[dict[str, Decimal]], list[Decimal]]:
    """Use one sum up before the next, line after line; returns parts and what is due per line."""
    left = dict(money)
    parts: list[dict[str, Decimal]] = []
    due = []
    for total in totals:
        rest = total
        taken: dict[str, Decimal] = {}
        for key, amount in left.items():
            part = min(amount, rest)
            if part > 0:
                taken[key] = part
                left[key] -= part
                rest -= part
        parts.append(taken)
        due.append(rest)
    return parts, due


@dataclass(frozen=True, slots=True)
class NetMeter:
    """Units given and used since the last reset; the balance may go below zero."""

    consumed: Decimal
    credited: Decimal

    @property
    def balance(self) -> Decimal:
        """Units left, or used beyond."""
        return self.credited - self.consumed

    @property
    def billable(self) -> Decimal:
        """Units to bill."""
        return max(-self.balance, ZERO)

    def amount(self, unit_price: Exact, unit: Unit) -> Decimal:
        """What the units to bill cost."""
        return quantize(Fraction(self.billable) * Fraction(unit_price), unit)
