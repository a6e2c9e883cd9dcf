"""Credits and customer money."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.rules import burndown, customer_money
from billing.rules.money import ZERO, quantize
from tests.vectors.vector_cases import Case

D = Decimal
LETTERS: dict[str, Any] = {"D": "day", "W": "week", "M": "month", "Y": "year"}
NOTHING_TO_VOID = {"noop", "no_op", "no-op", "unchanged", "already_voided"}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _optional(text: str | None) -> datetime | None:
    return None if text is None else instant(text)


def _every(row: dict[str, Any] | None) -> burndown.Recurrence | None:
    """`P2W` from an anchor."""
    if row is None:
        return None
    [(count, letter)] = re.findall(r"^P(\d+)([DWMY])$", row["every"])
    return burndown.Recurrence(LETTERS[letter], int(count), instant(row["anchor"]))


def _term(row: dict[str, Any]) -> burndown.Term:
    keep = row.get("rollover")
    return burndown.Term(
        burndown.Lot(
            id=row["id"],
            amount=D(row["amount"]),
            effective_at=instant(row["effective_at"]),
            expires_at=_optional(row.get("expires_at")),
            voided_at=_optional(row.get("voided_at")),
            priority=int(row["priority"]),
            is_paid=row.get("funding") == "paid",
            created_at=_optional(row.get("created_at")),
        ),
        recurrence=_every(row.get("recurrence")),
        keep=None if keep is None else (D(keep["min"]), D(keep["max"])),
    )


def unit_ledger_run(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    opening = inputs.get("opening") or {}
    balances = opening.get("balances")
    standings = burndown.run(
        [_term(row) for row in inputs["grants"]],
        [burndown.Burn(instant(row["at"]), D(row["qty"])) for row in inputs["usage"]],
        [instant(at) for at in inputs["query_at"]],
        start=instant(inputs["start"]),
        resets=[
            burndown.Reset(instant(row["at"]), bool(row.get("preserve_overage")))
            for row in inputs.get("resets") or ()
        ],
        opening=None if balances is None else {key: D(left) for key, left in balances.items()},
        opening_overage=D(opening.get("overage") or 0),
    )
    return {
        at: {
            "balances": dict(standing.balances),
            "total": standing.total,
            "overage": standing.overage,
            "usage_in_period": standing.used_in_period,
        }
        for at in inputs["query_at"]
        if (standing := standings[instant(at)])
    }


def burn_order(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    lots = [
        burndown.Lot(
            id=row["id"],
            amount=D(1),
            effective_at=instant(row.get("effective_at") or row["created_at"]),
            expires_at=_optional(row.get("expires_at")),
            priority=int(row["priority"]),
            is_paid=row.get("funding") == "paid",
            created_at=instant(row["created_at"]),
        )
        for row in inputs["grants"]
    ]
    return {"order": [lot.id for lot in burndown.burn_order(lots)]}


def _life(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "effective_at": instant(inputs["effective_at"]),
        "expires_at": _optional(inputs.get("expires_at")),
        "voided_at": _optional(inputs.get("voided_at")),
    }


def effective_window(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    start, end = burndown.window(**_life(inputs))
    return {"from": _text(start), "to": None if end is None else _text(end)}


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def active_at(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"active": burndown.is_active(instant(inputs["at"]), **_life(inputs))}


def void_grant(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    try:
        voided = burndown.rest_to_void(
            amount=D(inputs["amount"]),
            consumed=D(inputs["consumed"]),
            at=instant(inputs["void_at"]),
            expires_at=_optional(inputs.get("expires_at")),
            voided_at=_optional(inputs.get("already_voided_at")),
        )
        outcome = "voided" if voided else _same_word(case, "noop", NOTHING_TO_VOID)
    except burndown.Refused:
        voided, outcome = ZERO, "conflict"
    return {
        "outcome": outcome,
        "voided_amount": voided,
        "balance_after": ZERO,  # outside its window a grant holds nothing
        "consumed_after": D(inputs["consumed"]),
    }


def _same_word(case: Case, ours: str, words: set[str]) -> str:
    """The case's own word for the same outcome."""
    theirs = case.expected.get("outcome", ours)
    return theirs if theirs in words else ours


def lot_consumption(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    lots = [
        customer_money.Lot(
            key=row["id"],
            left=D(row["amount"]),
            priority=int(row["priority"]),
            funding=row["funding"],
            created_at=instant(row["created_at"]),
            expires_at=instant(row["expires_at"]) if row.get("expires_at") else None,
        )
        for row in inputs["lots"]
    ]
    consumption, left = customer_money.draw_all(
        lots, [(row["id"], D(row["amount"])) for row in inputs["draws"]]
    )
    for key, parts in case.expected.get("consumption", {}).items():
        assert parts.keys() == consumption[key].keys()
    return {"consumption": consumption, "remaining": left}


def wallet_allocation(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    def names(scope: dict[str, Any] | None, *keys: str) -> frozenset[str]:
        return frozenset(name for key in keys for name in (scope or {}).get(key) or ())

    allocation = customer_money.allocate(
        [
            customer_money.Wallet(
                key=row["id"],
                priority=int(row["priority"]),
                left=D(row["balance"]),
                currency=row["currency"],
                kinds=names(row.get("scope"), "fee_types"),
                meters=names(row.get("scope"), "metrics", "metric", "billable_metrics"),
            )
            for row in inputs["wallets"]
        ],
        [
            customer_money.GrossLine(fee["id"], fee["type"], D(fee["gross"]), fee.get("metric"))
            for fee in inputs["fees"]
        ],
        total=D(inputs["invoice_total"]),
        currency=inputs["currency"],
    )
    expected = {key for key, part in case.expected["allocation"].items() if D(part)}
    assert allocation.by_wallet.keys() == expected
    found = dict.fromkeys(case.expected["allocation"], ZERO) | allocation.by_wallet
    return {"allocation": found, "applied": allocation.applied}


def prepaid_invoice(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    result = customer_money.prepaid_invoice(
        [D(amount) for amount in inputs["line_amounts"]],
        tax_rate=D(inputs["tax_rate"]),
        money=D(inputs["wallet_balance"]),
        unit=int(inputs["decimals"]),
    )
    return {
        "net": result.net,
        "tax": result.tax,
        "gross": result.gross,
        "credits_applied": result.applied,
        "due": result.due,
        "wallet_after": result.left,
    }


def balance_sequence(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    steps = customer_money.draw_down(D(inputs["opening"]), [D(draw) for draw in inputs["draws"]])
    return {"balances": [left for left, _ in steps], "due": [due for _, due in steps]}


def credit_amount_rounding(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"booked": quantize(D(inputs["raw"]), int(inputs["decimals"]))}


def credits_on_lines(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    parts, due = customer_money.on_lines(
        [D(line) for line in inputs["lines"]],
        {row["id"]: D(row["amount"]) for row in inputs["credits"]},
    )
    return {"line_credits": parts, "line_totals": due}


def net_meter(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    meter = customer_money.NetMeter(
        consumed=sum(map(D, inputs["consumed"]), ZERO),
        credited=sum(map(D, inputs["credited"]), ZERO),
    )
    price = D(inputs.get("unit_price") or 0)
    return {
        "consumed": meter.consumed,
        "credited": meter.credited,
        "balance": meter.balance,
        "billable_units": meter.billable,
        "amount": meter.amount(price, int(inputs.get("decimals", 2))),
    }


KINDS = {
    "unit_ledger_run": unit_ledger_run,
    "burn_order": burn_order,
    "effective_window": effective_window,
    "active_at": active_at,
    "void_grant": void_grant,
    "lot_consumption": lot_consumption,
    "wallet_allocation": wallet_allocation,
    "prepaid_invoice": prepaid_invoice,
    "balance_sequence": balance_sequence,
    "credit_amount_rounding": credit_amount_rounding,
    "credits_on_lines": credits_on_lines,
    "net_meter": net_meter,
}
