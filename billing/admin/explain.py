"""Why a line is the amount it is, in sentences, from what was written down when it was priced.

Nothing is computed again: every figure here stands on the line or in its explanation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.models import InvoiceLine
from billing.templatetags.billing_format import (
    amount,
    credit_amount,
    day,
    digits,
    percent,
    quantity,
    rate,
    span_text,
    units,
)

TIMES, DIVIDED, EQUALS = "\u00d7", "\u00f7", "="

_CATEGORIES: Mapping[str, str] = {
    "S": "standard rate",
    "AE": "reverse charge, the buyer accounts for it",
    "Z": "zero rate",
    "E": "exempt",
    "G": "export, outside the scope of VAT of the seller's country",
    "O": "outside the scope of VAT",
    "K": "supply within the European Union",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of the answer: what it is about, the sentence, and where to see more."""

    term: str
    text: str
    plan_version_id: int | None = None


def because(line: InvoiceLine, currency: str) -> list[Reason]:
    """The reasons of one line, the price first and the tax last."""
    facts: Mapping[str, Any] = line.explanation or {}
    return [
        *_price(line, currency, facts),
        *_days(facts),
        *_sum(line, currency, facts),
        Reason("Rounding", f"once, to whole coins: {amount(line.net, currency)}"),
        *_tax(line, facts),
    ]


def _number(value: object) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _price(line: InvoiceLine, currency: str, facts: Mapping[str, Any]) -> Iterator[Reason]:
    version_id = line.price.plan_version_id if line.price else None
    source = f", from {line.price.plan_version}" if line.price else ""
    tiers = facts.get("tiers") or []
    if facts.get("model") in (None, "unit") or len(tiers) <= 1:
        unit_price = _number(tiers[0].get("unit_price")) if tiers else line.unit_price
        base = _number(facts.get("base_quantity")) or Decimal(1)
        each = line.price.unit_label if line.price else line.unit
        per = f"one {each}" if base == 1 else units(base, each)
        shown = line.unit_price if unit_price is None else unit_price
        yield Reason("Price", f"{rate(shown, currency)} {currency} for {per}{source}", version_id)
        return
    yield Reason("Price", f"by tiers{source}", version_id)
    for number, tier in enumerate(tiers, start=1):
        used, unit_price = _number(tier.get("quantity")), _number(tier.get("unit_price"))
        total, flat = _number(tier.get("amount")), _number(tier.get("flat"))
        up_to = _number(tier.get("up_to"))
        limit = f"up to {quantity(up_to)}: " if up_to is not None else "above: "
        extra = f" + {quantity(flat)}" if flat else ""
        yield Reason(
            f"Tier {number}",
            f"{limit}{quantity(used)} {TIMES} {rate(unit_price, currency)}{extra}"
            f" {EQUALS} {rate(total, currency)}",
        )


def _days(facts: Mapping[str, Any]) -> Iterator[Reason]:
    served, whole = facts.get("days_served"), facts.get("days_in_period")
    if isinstance(served, int) and isinstance(whole, int):
        text = (
            f"the whole period of {whole} days"
            if served == whole
            else f"{served} of {whole}: the plan did not run on the others"
        )
        yield Reason("Days", text)


def _sum(line: InvoiceLine, currency: str, facts: Mapping[str, Any]) -> Iterator[Reason]:
    beyond = _number(facts.get("credits_beyond_grants"))
    if beyond is not None:
        days = span_text(line.supply_from, line.supply_to)
        yield Reason("Use", f"{credit_amount(beyond)} credits that no grant covered, {days}")
    exact = _number(facts.get("exact"))
    if exact is None:
        return
    parts = f"{quantity(line.quantity)} {TIMES} {rate(line.unit_price, currency)}"
    if line.base_quantity != 1:
        parts = f"{parts} {DIVIDED} {line.base_quantity}"
    yield Reason("Sum", f"{parts} {EQUALS} {digits(exact, 2)} {currency}")


def _tax(line: InvoiceLine, facts: Mapping[str, Any]) -> Iterator[Reason]:
    tax = facts.get("tax") or {}
    why = str(tax.get("reason") or _CATEGORIES.get(line.tax_category, ""))
    country = str(tax.get("country") or "")
    text = f"{percent(line.tax_rate)}{f' of {country}' if country else ''}"
    yield Reason("VAT", f"{text}, {why}" if why else text)
    yield Reason("VAT date", day(line.tax_point_on))
