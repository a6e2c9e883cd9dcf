"""The chart of accounts and the recipes: the named templates that make balanced money entries.

A recipe returns signed legs of one currency, debits positive, that add up to zero. It only sees
booked amounts; nothing is rounded here. Issue credits `contract`, service debits it: per customer
a credit balance there is deferred revenue, a debit balance unbilled revenue.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from billing.rules.money import ZERO


@dataclass(frozen=True, slots=True)
class Account:
    """A journal account."""

    code: str
    name: str
    kind: Literal["asset", "liability", "income", "expense"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of an entry."""

    account: str  # a code of ACCOUNTS
    amount: Decimal  # currency units, signed: a debit is positive
    source: str = ""  # what it is about, such as grant:7 or a product


ACCOUNTS: Final = {
    account.code: account
    for account in (
        Account("bank", "Bank", "asset"),
        Account("gateway_clearing", "Payment gateway clearing", "asset"),
        Account("receivable", "Receivables", "asset"),
        Account("withholding_recoverable", "Withholding tax recoverable", "asset"),
        Account("contract", "Contract balances: deferred and unbilled revenue", "liability"),
        Account("customer_money", "Customer money", "liability"),
        Account("unidentified", "Unidentified receipts", "liability"),
        Account("refunds_in_transit", "Refunds in transit", "liability"),
        Account("tax_due", "VAT due", "liability"),
        Account("tax_pending", "VAT pending payment", "liability"),
        Account("voucher_liability", "Multi-purpose vouchers", "liability"),
        Account("unclaimed_property", "Unclaimed property", "liability"),
        Account("migration_clearing", "Migration clearing", "liability"),
        Account("revenue", "Revenue", "income"),
        Account("breakage", "Breakage of paid credits", "income"),
        Account("other_income", "Late fees and interest", "income"),
        Account("bad_debt", "Bad debt", "expense"),
        Account("fees", "Payment gateway fees", "expense"),
        Account("bank_charges", "Bank charges", "expense"),
        Account("payment_differences", "Payment differences", "expense"),
        Account("rounding", "Payable rounding", "expense"),
        Account("fx", "Exchange differences", "expense"),
    )
}

Sourced = tuple[str, Decimal]  # (source, amount)


def balance(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """The legs that move something; raise ValueError if they do not add up to zero."""
    kept = tuple(leg for leg in legs if leg.amount)
    total = sum((leg.amount for leg in kept), ZERO)
    if total:
        raise ValueError(f"the legs add up to {total}, not to zero")
    unknown = {leg.account for leg in kept} - ACCOUNTS.keys()
    if unknown:
        raise ValueError(f"no such account: {', '.join(sorted(unknown))}")
    return kept


def move(debit: str, credit: str, amount: Decimal, source: str = "") -> tuple[Leg, ...]:
    """The simplest entry: one amount from one account to another."""
    return balance((Leg(debit, amount, source), Leg(credit, -amount, source)))


def invoice_issued(
    *,
    payable: Decimal,
    lines: Sequence[Sourced],
    taxes: Sequence[Sourced],
    rounding: Decimal = ZERO,
    tax_due_on: Literal["invoice", "payment"] = "invoice",
) -> tuple[Leg, ...]:
    """Receivable against the contract per line, VAT per group, and BT-114.

    lines: (source, net); taxes: (group such as "S 23", VAT).

    >>> legs = invoice_issued(payable=Decimal("123.00"), lines=[("line:1", Decimal("100.00"))],
    ...                       taxes=[("S 23", Decimal("23.00"))])
    >>> [(leg.account, str(leg.amount)) for leg in legs]
    [('receivable', '123.00'), ('contract', '-100.00'), ('tax_due', '-23.00')]
    """
    tax_account = "tax_due" if tax_due_on == "invoice" else "tax_pending"
    return balance(
        (
            Leg("receivable", payable),
            *(Leg("contract", -net, source) for source, net in lines),
            *(Leg(tax_account, -tax, source) for source, tax in taxes),
            Leg("rounding", -rounding),
        )
    )


def credit_note(
    *,
    unserved: Sequence[Sourced],
    served: Sequence[Sourced],
    taxes: Sequence[Sourced],
    to_receivable: Decimal,
    to_customer_money: Decimal,
    rounding: Decimal = ZERO,
    tax_due_on: Literal["invoice", "payment"] = "invoice",
) -> tuple[Leg, ...]:
    """Take lines back: contract where not yet served, revenue where served, and the VAT.

    All amounts are positive; the other side reduces what is due, and the rest is the customer's.
    """
    tax_account = "tax_due" if tax_due_on == "invoice" else "tax_pending"
    return balance(
        (
            *(Leg("contract", net, source) for source, net in unserved),
            *(Leg("revenue", net, source) for source, net in served),
            *(Leg(tax_account, tax, source) for source, tax in taxes),
            Leg("rounding", rounding),
            Leg("receivable", -to_receivable),
            Leg("customer_money", -to_customer_money),
        )
    )


def payment_received(
    *,
    amount: Decimal,
    into: Literal["bank", "gateway_clearing"] = "bank",
    identified: bool = True,
) -> tuple[Leg, ...]:
    """Money arrived: it is the customer's until allocated, or unidentified."""
    return move(into, "customer_money" if identified else "unidentified", amount)


def payment_identified(*, amount: Decimal) -> tuple[Leg, ...]:
    """An unidentified receipt found its owner."""
    return move("unidentified", "customer_money", amount)


def gateway_payout(*, amount: Decimal, fee: Decimal = ZERO) -> tuple[Leg, ...]:
    """The gateway paid out `amount` after keeping its fee."""
    return balance((Leg("bank", amount), Leg("fees", fee), Leg("gateway_clearing", -amount - fee)))


def allocation(*, amount: Decimal, taxes: Sequence[Sourced] = ()) -> tuple[Leg, ...]:
    """Customer money settles a receivable.

    taxes: where VAT falls due on payment, the share of each group that this payment makes due.
    """
    return balance(
        (
            Leg("customer_money", amount),
            Leg("receivable", -amount),
            *(Leg("tax_pending", tax, source) for source, tax in taxes),
            *(Leg("tax_due", -tax, source) for source, tax in taxes),
        )
    )


def refund_approved(*, amount: Decimal) -> tuple[Leg, ...]:
    """Customer money is on its way back."""
    return move("customer_money", "refunds_in_transit", amount)


def refund_paid(*, amount: Decimal) -> tuple[Leg, ...]:
    """The statement shows the refund left the bank."""
    return move("refunds_in_transit", "bank", amount)


def invoice_reopened(*, amount: Decimal) -> tuple[Leg, ...]:
    """Before a refund without a note: what was allocated is due again."""
    return move("receivable", "customer_money", amount)


def chargeback(
    *,
    amount: Decimal,
    fee: Decimal = ZERO,
    out_of: Literal["bank", "gateway_clearing"] = "gateway_clearing",
) -> tuple[Leg, ...]:
    """A payment was taken back: the invoice is due again. A won dispute is `reverse` of it."""
    return balance((Leg("receivable", amount), Leg("fees", fee), Leg(out_of, -amount - fee)))


def write_off(*, amount: Decimal) -> tuple[Leg, ...]:
    """The served part of a receivable is given up, gross; VAT relief is a later event."""
    return move("bad_debt", "receivable", amount)


def bad_debt_relief(*, taxes: Sequence[Sourced]) -> tuple[Leg, ...]:
    """VAT relief once there is evidence."""
    total = sum((tax for _, tax in taxes), ZERO)
    return balance(
        (*(Leg("tax_due", tax, source) for source, tax in taxes), Leg("bad_debt", -total))
    )


def bad_debt_recovered(*, net: Decimal, taxes: Sequence[Sourced]) -> tuple[Leg, ...]:
    """Money came in after all."""
    total = net + sum((tax for _, tax in taxes), ZERO)
    return balance(
        (
            Leg("bank", total),
            Leg("bad_debt", -net),
            *(Leg("tax_due", -tax, source) for source, tax in taxes),
        )
    )


def revenue_recognised(*, parts: Sequence[tuple[str, str, Decimal]]) -> tuple[Leg, ...]:
    """Service was rendered or credits were used: (contract source, product, amount), may be < 0."""
    return balance(
        leg
        for source, product, amount in parts
        for leg in (Leg("contract", amount, source), Leg("revenue", -amount, product))
    )


def breakage(*, parts: Sequence[Sourced], unclaimed: bool = False) -> tuple[Leg, ...]:
    """Paid credits expired or were forfeited: (grant source, rest of its cost)."""
    account = "unclaimed_property" if unclaimed else "breakage"
    return balance(
        leg
        for source, amount in parts
        for leg in (Leg("contract", amount, source), Leg(account, -amount, source))
    )


def compensation(*, amount: Decimal, grant: str) -> tuple[Leg, ...]:
    """A grant the contract promised in compensation reduces revenue now."""
    return balance((Leg("revenue", amount), Leg("contract", -amount, grant)))


def credit_transfer(*, amount: Decimal, from_source: str, to_source: str) -> tuple[Leg, ...]:
    """The cost of unused credits moves to another grant, or on a merge to another customer."""
    return balance((Leg("contract", amount, from_source), Leg("contract", -amount, to_source)))


def payment_difference(*, amount: Decimal, bank_charge: bool = False) -> tuple[Leg, ...]:
    """A small short payment is closed."""
    return move("bank_charges" if bank_charge else "payment_differences", "receivable", amount)


def withholding(*, amount: Decimal) -> tuple[Leg, ...]:
    """The customer withheld tax and owes us the certificate."""
    return move("withholding_recoverable", "receivable", amount)


def late_fee(*, amount: Decimal) -> tuple[Leg, ...]:
    """A debit note for fee or interest, outside VAT."""
    return move("receivable", "other_income", amount)


def fx_difference(*, amount: Decimal) -> tuple[Leg, ...]:
    """A gain (positive) or loss on a receivable."""
    return move("receivable", "fx", amount)


def reverse(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """The entry that takes another one back."""
    return balance(Leg(leg.account, -leg.amount, leg.source) for leg in legs)


RECIPES: Final[dict[str, Callable[..., tuple[Leg, ...]]]] = {
    recipe.__name__: recipe
    for recipe in (
        invoice_issued,
        credit_note,
        payment_received,
        payment_identified,
        gateway_payout,
        allocation,
        refund_approved,
        refund_paid,
        invoice_reopened,
        chargeback,
        write_off,
        bad_debt_relief,
        bad_debt_recovered,
        revenue_recognised,
        breakage,
        compensation,
        credit_transfer,
        payment_difference,
        withholding,
        late_fee,
        fx_difference,
        reverse,
    )
}
