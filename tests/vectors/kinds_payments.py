"""Receivables: payments, refunds, chargebacks, credits."""

from decimal import Decimal
from typing import Any

from billing.rules import credit_notes, receivables
from tests.vectors.vector_cases import Case

D = Decimal
# The same fact in the words of different peers.
STATES = {
    "paid": {"paid", "succeeded", "settled"},
    "refunded": {"refunded", "fully_refunded"},
    "part_paid": {"part_paid", "partially_paid", "partial", "pending", "open", "unpaid"},
}


def _event_kind(word: str) -> Any:
    if any(part in word for part in ("fail", "attempt", "declin", "abort")):
        return "failed_payment"
    return "credit" if "adjustment" in word else word


def _in_their_words(state: str, theirs: Any) -> str:
    return theirs if theirs in STATES.get(state, ()) else state


def _opt(value: Any) -> Decimal:
    return D(value or 0)


def invoice_balance(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    events = [
        receivables.Event(
            _event_kind(row["type"]),
            abs(_opt(row.get("amount"))),
            _opt(row.get("adjust")),
        )
        for row in inputs["events"]
    ]
    states = receivables.balances(D(inputs["charged"]), events)
    last = states[-1] if states else receivables.Balance(D(inputs["charged"]))
    return {
        "balances": [state.due for state in states],
        "paid": last.paid,
        "refunded": last.refunded,
        "charged": last.total,
    }


def account_balance(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    account = receivables.Account()
    for step in inputs["steps"]:
        amount = D(step["amount"])
        match step["type"]:
            case "charge":
                account = account.charge(amount)
            case "payment":
                account = account.pay(amount)
            case "cancel_item" | "credit":
                account = account.credit(amount)
            case "chargeback_reversal":
                account = account.pay(amount)
            case "refund" | "chargeback":
                account = account.refund(amount, adjust=_opt(step.get("adjust")))
            case other:
                raise AssertionError(f"no such step: {other}")
    return {"account_balance": account.balance, "account_credit": account.money}


def credit_on_invoice(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    account = receivables.Account().charge(D(inputs["invoice_charged"]))
    account = account.credit(D(inputs["credit"]))
    return {"invoice_balance": account.open, "account_credit": account.money}


def account_credit_use(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    before = receivables.Account(money=D(inputs["account_credit"]))
    after = before.charge(D(inputs["invoice_charged"]))
    return {
        "applied": before.money - after.money,
        "invoice_balance": after.open,
        "account_credit_after": after.money,
    }


def manual_payment(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    outcome = receivables.allocate(
        total=D(inputs["total"]),
        paid=_opt(inputs.get("already_paid")),
        credited=_opt(inputs.get("offset")),
        amount=D(inputs["payment"]),
    )
    return {
        "accepted": outcome.accepted,
        "remaining": outcome.due,
        "status": _in_their_words(outcome.state, case.expected.get("status")),
    }


def payment_request(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    amount = receivables.requested(
        (
            D(row["total"]),
            _opt(row.get("paid")),
            [D(o["amount"]) for o in row.get("offsets") or () if o.get("status") != "draft"],
        )
        for row in inputs["invoices"]
    )
    return {"amount": amount}


def credit_notes_on_invoice(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    notes = [
        receivables.CreditNote(row["id"], D(row["balance"]), row["currency"])
        for row in inputs["credit_notes"]
    ]
    applied, due = receivables.apply_notes(D(inputs["invoice_total"]), inputs["currency"], notes)
    if case.expected.get("applied") is not None:
        assert applied.keys() == case.expected["applied"].keys()
    return {"applied": applied, "due": due}


def termination_split(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    result = credit_notes.termination_split(
        fee_net=D(inputs["fee_net"]),
        fee_discount=_opt(inputs.get("fee_discount")),
        used_net=D(inputs["used_net"]),
        unused_net=D(inputs["unused_net"]),
        credited_net=_opt(inputs.get("previously_credited_net")),
        tax_rate=_opt(inputs.get("tax_rate")),
        invoice_gross=D(inputs["invoice_gross"]),
        paid=D(inputs["paid"]),
        unit=int(inputs.get("decimals", 2)),
    )
    return {
        "total": result.total,
        "net": result.net,
        "tax": result.tax,
        "refund": result.refund,
        "remainder": result.remainder,
    }


def refund_tax(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    refunds = [D(amount) for amount in inputs["refunds"]]
    net = D(inputs["order_net"])
    order = credit_notes.Remaining(net, D(inputs["order_tax"]))
    whole = receivables.is_refunded(net, _opt(inputs.get("applied_balance")), refunds)
    return {
        "tax": credit_notes.refund_taxes(order, refunds, int(inputs.get("decimals", 2))),
        "status": _in_their_words("refunded", case.expected.get("status"))
        if whole
        else "partially_refunded",
    }


def refund_vs_balance(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    net = D(inputs["refund_net"])
    order = credit_notes.Remaining(D(inputs["order_net"]), D(inputs["order_tax"]))
    [tax] = credit_notes.refund_taxes(order, [net], int(inputs.get("decimals", 2)))
    return {"balance_after": receivables.clawed_back(D(inputs["balance"]), net + tax)}


KINDS = {
    "invoice_balance": invoice_balance,
    "account_balance": account_balance,
    "credit_on_invoice": credit_on_invoice,
    "account_credit_use": account_credit_use,
    "manual_payment": manual_payment,
    "payment_request": payment_request,
    "credit_notes_on_invoice": credit_notes_on_invoice,
    "termination_split": termination_split,
    "refund_tax": refund_tax,
    "refund_vs_balance": refund_vs_balance,
}
