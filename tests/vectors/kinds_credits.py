"""Credits and customer money."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.rules import customer_money
from billing.rules.money import ZERO, quantize
from tests.vectors.vector_cases import Case

D = Decimal


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


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
    "lot_consumption": lot_consumption,
    "wallet_allocation": wallet_allocation,
    "prepaid_invoice": prepaid_invoice,
    "balance_sequence": balance_sequence,
    "credit_amount_rounding": credit_amount_rounding,
    "credits_on_lines": credits_on_lines,
    "net_meter": net_meter,
}
