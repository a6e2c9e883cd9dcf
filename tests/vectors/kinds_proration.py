"""Periods, parts of periods, and changes inside them."""

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

from billing.rules import changes, periods
from billing.rules.money import quantize
from billing.rules.periods import Span
from tests.vectors.vector_cases import Case

D = Decimal
FRACTION_PLACES = 9


def day(text: str) -> date:
    return date.fromisoformat(text)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def span(row: dict[str, str]) -> Span:
    return Span(day(row["from"]), day(row["to"]))


def iso(at: date) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _interval(inputs: dict[str, Any]) -> tuple[Any, int]:
    for unit in ("month", "week", "day", "year", "quarter"):
        if inputs.get(f"interval_{unit}s") is not None:
            return unit, int(inputs[f"interval_{unit}s"])
    return inputs.get("interval") or inputs.get("unit"), int(inputs.get("count") or 1)


def _rounding(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"unit": int(inputs.get("currency_decimals", 2)), "rounding": inputs["rounding"]}


def _day_count(case: Case) -> Any:
    return case.options.get("proration.day_count", "actual")


def cycle_fraction(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    interval, count = _interval(inputs)
    start, cycle_day = day(inputs["start"]), int(inputs["billing_cycle_day"])
    parts = periods.parts_begun(
        periods.aligned_anchor(start, interval, count, alignment="fixed", fixed_day=cycle_day),
        interval,
        count,
        start=start,
        end=day(inputs["end"]) if inputs.get("end") else None,
        through=day(inputs["target"]),
        day=cycle_day,
    )
    return {"cycles": sum(quantize(part.fraction, FRACTION_PLACES) for part in parts)}


def first_billing_date(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    interval, count = _interval(inputs)
    first = periods.first_boundary(
        day(inputs["start"]), interval, count, int(inputs["billing_cycle_day"])
    )
    return {"date": iso(first)}


def billing_period(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    interval, count = _interval(inputs)
    anchor = periods.aligned_anchor(
        day(inputs["anchor"]), interval, count, alignment=inputs["alignment"]
    )
    found = periods.period_at(anchor, interval, count, day(inputs["date"]))
    if inputs["select"] == "last_completed":
        found = periods.period(anchor, interval, count, found.index - 1)
    served = found.span
    if inputs.get("start"):
        served = served.within(day(inputs["start"]), None)
    return {"from": iso(served.start), "to": iso(served.end)}


def period_at(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    interval, count = _interval(inputs)
    found = periods.period_at(instant(inputs["anchor"]), interval, count, instant(inputs["at"]))
    return {"from": iso(found.start), "to": iso(found.end)}


def cycle_list(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    interval, count = _interval(inputs)
    split_on = day(inputs["split_at"]) if inputs.get("split_at") else None
    found = periods.cycles(day(inputs["start"]), interval, count, split_on=split_on)
    return {
        "cycles": [
            {"from": iso(cycle.start), "to": iso(cycle.end)}
            for cycle in islice(found, int(inputs["cycles"]))
        ]
    }


def prorated_amount(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    part = periods.fraction(
        span(inputs["service"]), span(inputs["period"]), day_count=_day_count(case)
    )
    return {"amount": periods.prorated(D(inputs["full_amount"]), part, **_rounding(inputs))}


def first_period_fee(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    whole = span(inputs["period"])
    part = periods.fraction(
        whole.within(day(inputs["start"]), None),
        whole,
        days_not_charged=int(inputs.get("trial_days") or 0),
    )
    return {"amount": periods.prorated(D(inputs["full_amount"]), part, **_rounding(inputs))}


def _terms(row: dict[str, Any]) -> changes.Terms:
    return changes.Terms(D(row["amount"]), span(row["period"]), _discount(row.get("discount")))


def _discount(row: dict[str, Any] | None) -> changes.Discount | None:
    if row is None:
        return None
    return changes.Discount(percent=D(row.get("percent") or 0), fixed=D(row.get("fixed") or 0))


def plan_change(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    change = changes.plan_change(
        _terms(inputs["old"]), _terms(inputs["new"]), day(inputs["change_at"]), **_rounding(inputs)
    )
    return {"credit": change.credit, "debit": change.debit, "net": change.net}


def quantity_change(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    amount = changes.quantity_change(
        D(inputs["unit_price"]),
        old_quantity=D(inputs["old_quantity"]),
        new_quantity=D(inputs["new_quantity"]),
        period=span(inputs["period"]),
        on=day(inputs["change_at"]),
        **_rounding(inputs),
    )
    direction = "debit" if amount > 0 else "credit" if amount < 0 else "none"
    return {"direction": direction, "amount": abs(amount)}


def component_proration(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    amounts = changes.components(
        [D(price) for price in inputs["components"]],
        discount=_discount(inputs.get("discount")),
        period=span(inputs["period"]),
        served=span(inputs["service"]),
        **_rounding(inputs),
    )
    return {"amounts": amounts}


def termination_credit(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    credit = changes.termination_credit(
        D(inputs["full_amount"]),
        period=span(inputs["period"]),
        unused_from=day(inputs["unused_from"]),
        tax_rate=D(inputs["tax_rate"]),
        **_rounding(inputs),
    )
    return {"net": credit.net, "tax": credit.tax, "total": credit.total}


def stub_fraction(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    whole = Span(day(inputs["period_from"]), day(inputs["period_to"]))
    return {"fraction": quantize(periods.ratio(span(inputs), whole), FRACTION_PLACES)}


def _month_before(inputs: dict[str, Any], case: Case) -> Fraction:
    """Part of the month that ends with the stub."""
    stub = span(inputs)
    whole = Span(periods.add_months(stub.end, -1), stub.end)
    return periods.fraction(stub, whole, day_count=_day_count(case))


def stub_fraction_fixed30(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"fraction": quantize(_month_before(inputs, case), FRACTION_PLACES)}


def prorated_amount_fixed30(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    part = _month_before(inputs, case)
    unit = int(inputs.get("currency_decimals", 2))
    return {"amount": periods.prorated(D(inputs["full_amount"]), part, unit)}


KINDS = {
    "cycle_fraction": cycle_fraction,
    "first_billing_date": first_billing_date,
    "billing_period": billing_period,
    "period_at": period_at,
    "cycle_list": cycle_list,
    "prorated_amount": prorated_amount,
    "first_period_fee": first_period_fee,
    "plan_change": plan_change,
    "quantity_change": quantity_change,
    "component_proration": component_proration,
    "termination_credit": termination_credit,
    "stub_fraction": stub_fraction,
    "stub_fraction_fixed30": stub_fraction_fixed30,
    "prorated_amount_fixed30": prorated_amount_fixed30,
}
