"""Document totals, VAT, coupons and credit notes."""

from decimal import Decimal
from typing import Any

from billing.rules import credit_notes, discounts, totals
from billing.rules.money import ZERO, quantize, split
from billing.rules.receivables import Balance
from tests.vectors.vector_cases import Case

D = Decimal


def _places(inputs: dict[str, Any]) -> int:
    return int(inputs.get("decimals", inputs.get("currency_decimals", 2)))


def _sums(values: Any) -> list[Decimal]:
    return [D(value) for value in values or ()]


def _opt(value: Any) -> Decimal:
    return D(value or 0)


def _rate(row: dict[str, Any]) -> Decimal:
    return _opt(row.get("vat_rate"))


def invoice_totals(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    unit = _places(inputs)
    if case.check.get("line_nets") == "recomputed":
        for line in inputs["lines"]:
            net = totals.line_net(
                D(line["quantity"]),
                D(line["unit_price"]),
                unit,
                base_quantity=D(line.get("price_base_quantity") or 1),
                charges=_sums(line.get("charges")),
                allowances=_sums(line.get("allowances")),
            )
            assert net == D(line["net"]), f"line net {net}, expected {line['net']}"
    result = totals.totals(
        [totals.Amount(D(ln["net"]), ln["vat_category"], _rate(ln)) for ln in inputs["lines"]],
        unit,
        allowances=_document_amounts(inputs.get("allowances")),
        charges=_document_amounts(inputs.get("charges")),
        paid=_opt(inputs.get("prepaid")),
        rounding=_opt(inputs.get("payable_rounding")),
    )
    groups = {(group.category, group.rate): group for group in result.groups}
    return {
        "line_total": result.lines,
        "allowance_total": result.allowances,
        "charge_total": result.charges,
        "tax_exclusive": result.net,
        "tax_total": result.tax,
        "tax_inclusive": result.gross,
        "payable": result.payable,
        "vat_breakdown": [
            {
                "vat_category": row["vat_category"],
                "vat_rate": None if row["vat_rate"] is None else group.rate,
                "taxable": group.taxable,
                "tax": group.tax,
            }
            for row in case.expected.get("vat_breakdown", ())  # their order; the set must be ours
            if (group := groups.get((row["vat_category"], _rate(row)))) is not None
            and len(groups) == len(case.expected["vat_breakdown"])
        ],
    }


def _document_amounts(rows: Any) -> list[totals.Amount]:
    return [totals.Amount(D(r["amount"]), r["vat_category"], _rate(r)) for r in rows or ()]


def vat_amount(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"tax": totals.tax_of(D(inputs["taxable"]), _opt(inputs["rate"]), _places(inputs))}


def vat_stated(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    accepted = totals.is_accepted(
        D(inputs["stated"]),
        D(inputs["taxable"]),
        _opt(inputs["rate"]),
        _places(inputs),
        tolerance=D(case.options.get("einvoice.receive_vat_tolerance", "0")),
    )
    return {"accepted": accepted}


def vat_group_taxable(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    taxable = totals.group_taxable(
        _sums(inputs.get("lines")), _sums(inputs.get("charges")), _sums(inputs.get("allowances"))
    )
    return {"valid": taxable == D(inputs["stated_taxable"])}


def document_total_rule(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    figures = {
        name: _sums(value) if isinstance(value, list) else _opt(value)
        for name, value in inputs.items()
        if name != "rule"
    }
    return {"valid": totals.holds(inputs["rule"], figures)}


def _coupon(row: dict[str, Any], fees: list[dict[str, Any]]) -> discounts.Coupon:
    percent = row.get("percent", row.get("percentage"))
    ids = row.get("fees") or row.get("fee_ids") or row.get("scope")
    return discounts.Coupon(
        amount=None if row.get("amount") is None else D(row["amount"]),
        percent=None if percent is None else D(percent),
        already_used=_opt(row.get("already_used")),
        lines=None if not ids else frozenset(n for n, fee in enumerate(fees) if fee["id"] in ids),
    )


def _net_and_tax(inputs: dict[str, Any], taken: list[Decimal]) -> dict[str, Any]:
    unit = _places(inputs)
    stacked = totals.stacked_totals(
        [
            totals.StackedLine(D(fee["amount"]) - off, tuple(_sums(fee.get("tax_rates"))))
            for fee, off in zip(inputs["fees"], taken, strict=True)
        ],
        unit,
    )
    return {
        "fees_total": stacked.net + sum(taken, ZERO),
        "discount_total": sum(taken, ZERO),
        "net": stacked.net,
        "tax_total": stacked.tax,
        "gross": stacked.gross,
        "fee_taxes": {
            fee["id"]: tax for fee, tax in zip(inputs["fees"], stacked.line_taxes, strict=True)
        },
    }


def net_tax_totals(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return _net_and_tax(inputs, [_opt(fee.get("discount")) for fee in inputs["fees"]])


def coupon_invoice(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    fees = inputs["fees"]
    taken = discounts.apply(
        [_coupon(row, fees) for row in inputs["coupons"]],
        [D(fee["amount"]) for fee in fees],
        _places(inputs),
    )
    per_fee = [sum(parts, ZERO) for parts in zip(*taken, strict=True)] or [ZERO] * len(fees)
    return _net_and_tax(inputs, per_fee)


def coupon_shares(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    fees = inputs["fees"]
    parts = discounts.shares(
        _coupon(inputs["coupon"], fees), [D(fee["amount"]) for fee in fees], _places(inputs)
    )
    return {"discount_total": sum(parts, ZERO), "shares": parts}


def credit_note_totals(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    note = credit_notes.note_totals(
        [
            credit_notes.Item(
                amount=D(item["amount"]),
                line_amount=D(item["fee_amount"]),
                line_discount=_opt(item.get("fee_discount")),
                tax_rates=tuple(_sums(item.get("tax_rates"))),
            )
            for item in inputs["items"]
        ],
        _places(inputs),
    )
    return {
        "discount_adjustment": note.discount,
        "net": note.net,
        "tax": note.tax,
        "total": note.total,
    }


def credit_note_sequence(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    notes = credit_notes.sequence(
        credit_notes.Remaining(D(inputs["invoice_net"]), D(inputs["invoice_tax"])),
        D(inputs["tax_rate"]),
        _sums(inputs["credit_note_nets"]),
        _places(inputs),
    )
    return {"taxes": [note.tax for note in notes], "totals": [note.total for note in notes]}


def per_line_tax_totals(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    nets, rate, unit = _sums(inputs["entries"]), D(inputs["tax_rate"]), _places(inputs)
    if case.options.get("tax.rounding") == "per_line":
        mode: Any = case.options.get("tax.rounding_mode", "half_up")
        net, gross = totals.per_line_totals(nets, rate, unit, rounding=mode)
        return {"net": net, "gross": gross}
    result = totals.totals([totals.Amount(quantize(net, unit), "S", rate) for net in nets], unit)
    return {"net": result.net, "gross": result.gross}


def allocate(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    keys = inputs.get("keys") if inputs.get("tie_break") == "key" else None
    shares = split(D(inputs["amount"]), _sums(inputs["weights"]), _places(inputs), keys=keys)
    return {"shares": shares}


def allocate_capped(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    shares = discounts.capped_shares(D(inputs["amount"]), _sums(inputs["weights"]), _places(inputs))
    return {"shares": shares}


def percent_per_line(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    found = discounts.percent_per_line(
        D(inputs["percent"]), _sums(inputs["amounts"]), _places(inputs)
    )
    return {"discounts": found}


def adjusted_invoice(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    adjusted = sum(_sums(inputs["adjustments"]) + _sums(inputs["tax_adjustments"]), ZERO)
    balance = Balance(
        charged=sum(_sums(inputs["items"]) + _sums(inputs["tax_items"]), ZERO),
        credited=-adjusted,
        paid=D(inputs["paid"]),
    )
    return {"invoice_total": balance.total, "account_credit": balance.overpaid}


KINDS = {
    "invoice_totals": invoice_totals,
    "vat_amount": vat_amount,
    "vat_amount_invalid": vat_stated,
    "vat_amount_tolerance": vat_stated,
    "vat_group_taxable": vat_group_taxable,
    "document_total_rule": document_total_rule,
    "net_tax_totals": net_tax_totals,
    "coupon_invoice": coupon_invoice,
    "coupon_shares": coupon_shares,
    "credit_note_totals": credit_note_totals,
    "credit_note_sequence": credit_note_sequence,
    "per_line_tax_totals": per_line_tax_totals,
    "allocate": allocate,
    "allocate_capped": allocate_capped,
    "percent_per_line": percent_per_line,
    "adjusted_invoice": adjusted_invoice,
}
