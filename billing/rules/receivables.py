"""What is due: invoices, the money that settles them, and what gives it back.

`due = charged − credited − paid + refunded without a note + chargebacks`. Money beyond what is due
is the customer's: shown, applied to the next invoice, or refunded. Everything happens by new
events; nothing is edited.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

from billing.rules.money import ZERO

EventKind = Literal[
    "payment",
    "failed_payment",
    "refund",
    "chargeback",
    "chargeback_reversal",
    "credit",
    "write_off",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an invoice; `adjust` is the part of a refund with a note."""

    kind: EventKind
    amount: Decimal
    adjust: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Balance:
    """The state of one invoice, derived from its events."""

    charged: Decimal
    credited: Decimal = ZERO
    written_off: Decimal = ZERO
    paid: Decimal = ZERO  # less chargebacks
    refunded: Decimal = ZERO

    @property
    def due(self) -> Decimal:
        """What the customer still owes on it; below zero when more was paid."""
        return self.charged - self.credited - self.written_off - self.paid + self.refunded

    @property
    def total(self) -> Decimal:
        """What the invoice asks for after credits and write-offs."""
        return self.charged - self.credited - self.written_off

    @property
    def overpaid(self) -> Decimal:
        """Money beyond the total: the customer's."""
        return max(-self.due, ZERO)

    def after(self, event: Event) -> "Balance":
        """The state once `event` has happened."""
        match event.kind:
            case "payment" | "chargeback_reversal":
                return replace(self, paid=self.paid + event.amount)
            case "chargeback":
                return replace(self, paid=self.paid - event.amount)
            case "refund":
                return replace(
                    self,
                    refunded=self.refunded + event.amount,
                    credited=self.credited + event.adjust,
                )
            case "credit":
                return replace(self, credited=self.credited + event.amount)
            case "write_off":
                return replace(self, written_off=self.written_off + event.amount)
            case "failed_payment":
                return self


def balances(charged: Decimal, events: Iterable[Event]) -> list[Balance]:
    """The invoice's state after each event.

    >>> [str(b.due) for b in balances(Decimal("10"), [Event("payment", Decimal("4"))])]
    ['6']
    """
    states = []
    state = Balance(charged)
    for event in events:
        state = state.after(event)
        states.append(state)
    return states


@dataclass(frozen=True, slots=True)
class Account:
    """One customer in one currency: what is open, and the money held for them."""

    open: Decimal = ZERO
    money: Decimal = ZERO

    @property
    def balance(self) -> Decimal:
        """What the customer owes in all; below zero when we hold their money."""
        return self.open - self.money

    def charge(self, amount: Decimal) -> "Account":
        """A new invoice; money held is applied to it at once."""
        used = min(self.money, amount)
        return Account(self.open + amount - used, self.money - used)

    def pay(self, amount: Decimal) -> "Account":
        """Money arrived: it settles what is open, the rest is held."""
        used = min(self.open, amount)
        return Account(self.open - used, self.money + amount - used)

    def credit(self, amount: Decimal) -> "Account":
        """A credit note: first against what is open, the rest becomes customer money."""
        return self.pay(amount)

    def refund(self, amount: Decimal, *, adjust: Decimal = ZERO) -> "Account":
        """Money went back: the part without a note eats money held, then reopens invoices."""
        bare = amount - adjust
        used = min(self.money, bare)
        return Account(self.open + bare - used, self.money - used)


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of an allocation."""

    accepted: bool
    due: Decimal

    @property
    def state(self) -> Literal["paid", "part_paid"]:
        """Derived, never stored."""
        return "paid" if self.due == 0 else "part_paid"


def allocate(*, total: Decimal, paid: Decimal, credited: Decimal, amount: Decimal) -> Settled:
    """Apply part of a payment to an invoice; refused above what is due (the rest stays money).

    >>> allocate(total=Decimal(100), paid=Decimal(30), credited=Decimal(20), amount=Decimal(60))
    Settled(accepted=False, due=Decimal('50'))
    """
    due = total - paid - credited
    if amount > due or amount <= 0:
        return Settled(accepted=False, due=due)
    return Settled(accepted=True, due=due - amount)


@dataclass(frozen=True, slots=True)
class Open:
    """An open invoice, as far as the order of settlement needs it."""

    key: str
    due: Decimal
    due_on: date
    number: str


def spread(amount: Decimal, invoices: Sequence[Open]) -> tuple[dict[str, Decimal], Decimal]:
    """Settle invoices without instructions: oldest due date first, then number.

    Returns what each gets, and what is left over as customer money.
    """
    given: dict[str, Decimal] = {}
    left = amount
    for invoice in sorted(invoices, key=lambda i: (i.due_on, i.number)):
        part = min(left, max(invoice.due, ZERO))
        if part > 0:
            given[invoice.key] = part
            left -= part
    return given, left


@dataclass(frozen=True, slots=True)
class CreditNote:
    """A credit note with money left on it."""

    key: str
    left: Decimal
    currency: str


def apply_notes(
    total: Decimal, currency: str, notes: Sequence[CreditNote]
) -> tuple[dict[str, Decimal], Decimal]:
    """Open notes of the same currency settle a new invoice, oldest first; returns parts and due."""
    given: dict[str, Decimal] = {}
    due = total
    for note in notes:
        part = min(note.left, due)
        if note.currency == currency and part > 0:
            given[note.key] = part
            due -= part
    return given, due


def requested(invoices: Iterable[tuple[Decimal, Decimal, Sequence[Decimal]]]) -> Decimal:
    """One request for several invoices: each its total less paid less issued credits."""
    return sum((total - paid - sum(notes, ZERO) for total, paid, notes in invoices), ZERO)


def is_refunded(net: Decimal, carried: Decimal, refunds: Iterable[Decimal]) -> bool:
    """Whether all is given back of a net amount and of what was carried into the same payment."""
    return sum(refunds, ZERO) >= net + carried


def clawed_back(money: Decimal, gross: Decimal) -> Decimal:
    """Customer money after a refund takes it back; a negative balance is left alone."""
    return money if money <= 0 else max(money - gross, ZERO)
