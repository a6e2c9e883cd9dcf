"""Which lines a subscription owes by a day: fees of its periods, and use beyond its credits.

A fee billed in advance is due for every period that has begun by `through`; whatever is billed in
arrears is due once its period is over. What was billed already is left out, so asking twice adds
nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal

from billing.rules import pricing
from billing.rules.money import ZERO, exponent, plain, quantize
from billing.rules.periods import Interval, Period, Span, fraction, periods

UNIT_MAX: Final = 20  # characters of a unit on a line
PERIODS_MAX: Final = 12  # more missed periods than this are looked at by a person first
_OPEN_END: Final = date.max


@dataclass(frozen=True, slots=True)
class Item:
    """One price of a plan version, in the currency of the invoice."""

    price_id: int
    role: Literal["fee", "overage"]
    label: str
    product: str
    unit: str
    billed: Literal["advance", "arrears"]
    price: pricing.Price


@dataclass(frozen=True, slots=True)
class Running:
    """A subscription: its periods are counted from `anchor_on`, it serves `[started, ended)`."""

    subscription_id: int
    interval: Interval
    interval_count: int
    anchor_on: date
    started_on: date
    ended_on: date | None
    quantity: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line to bill: `net` is `round(quantity · unit_price / base_quantity)`."""

    subscription_id: int
    price_id: int
    description: str
    product: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    base_quantity: int
    net: Decimal
    supply_from: date
    supply_to: date  # first day after
    in_advance: bool
    detail: str = ""  # what the quantity alone does not say
    explanation: dict[str, Any] = field(default_factory=dict)


class TooManyPeriods(ValueError):
    """More periods are unbilled than a run bills without a person looking (safety bound)."""


def due_lines(
    running: Running,
    items: Iterable[Item],
    *,
    through: date,
    billed: Mapping[int, Sequence[Span]],
    overage_by_day: Sequence[tuple[date, Decimal]],
    currency: str,
) -> list[Line]:
    """Every unbilled line of one subscription, oldest period first.

    through: first day after the run's period. billed: price id to the spans on invoices.
    overage_by_day: credits beyond the grants, by the customer's day.
    Raises TooManyPeriods past the safety bound.
    """
    parts = _parts(
        running.anchor_on,
        running.interval,
        running.interval_count,
        running.started_on,
        running.ended_on or _OPEN_END,
        through,
    )
    lines: list[Line] = []
    for item in items:
        due = (
            (whole, served)
            for whole, served in parts
            if _is_due(item, whole, served, through)
            and not any(
                span.start < served.end and served.start < span.end
                for span in billed.get(item.price_id, ())
            )
        )
        owed = [
            line
            for whole, served in due
            if (
                line := _fee(running, item, whole, served, currency)
                if item.role == "fee"
                else _overage(running, item, served, overage_by_day, currency)
            )
            is not None
        ]
        # Periods that owe nothing are never on an invoice, so they may pile up.
        if len(owed) > PERIODS_MAX:
            raise TooManyPeriods(
                f"{len(owed)} periods of “{item.label}” are not billed yet; "
                f"at most {PERIODS_MAX} are billed without a person looking."
            )
        lines += owed
    return sorted(lines, key=lambda line: (line.supply_from, line.price_id))


@lru_cache(maxsize=1024)
def _parts(
    anchor: date, interval: Interval, count: int, started: date, ended: date, through: date
) -> tuple[tuple[Period, Span], ...]:
    """Every period begun by `through` with its days served; many subscriptions share theirs."""
    return tuple(
        (whole, served)
        for whole in periods(anchor, interval, count, started, min(ended, _day_after(through)))
        if (served := whole.span.within(started, ended)).days
    )


def _day_after(day: date) -> date:
    return date.fromordinal(day.toordinal() + 1)


def _is_due(item: Item, whole: Period, served: Span, through: date) -> bool:
    if item.billed == "advance" and item.role == "fee":
        return whole.start <= through
    return served.end <= through


def _fee(running: Running, item: Item, whole: Period, served: Span, currency: str) -> Line | None:
    fee = _rated_fee(item, running.quantity, whole, served, currency)
    if fee is None:
        return None
    shape, base, net, explanation = fee
    return _line(running, item, served, shape, base, net, explanation)


_Shape = tuple[Decimal, str, Decimal]  # quantity, unit, unit price


@lru_cache(maxsize=4096)
def _rated_fee(
    item: Item, quantity: int, whole: Period, served: Span, currency: str
) -> tuple[_Shape, int, Decimal, dict[str, Any]] | None:
    """What a fee comes to, and why; the same for all who have it over the same days."""
    rated = pricing.rate(item.price, quantity)
    if not rated.amount:
        return None
    part = fraction(served, whole)
    net = quantize(rated.amount * part, currency)
    explanation = _explanation(item, rated, currency, net) | {
        "subscription_quantity": quantity,
        "days_served": served.days,
        "days_in_period": whole.days,
        "period": [whole.start.isoformat(), whole.end.isoformat()],
        "exact": plain(rated.amount * part),
    }
    if item.price.model == "unit" and part == 1:
        shape: _Shape = (Decimal(quantity), item.unit, item.price.unit_price)
        base = int(item.price.base_quantity)
    elif item.price.model == "unit":
        shape = (
            Decimal(quantity * served.days),
            _unit_days(item.unit),
            item.price.unit_price,
        )
        base = whole.days * int(item.price.base_quantity)
    else:
        shape, base = (Decimal(1), item.unit, net), 1
    return shape, base, net, explanation


def _unit_days(unit: str) -> str:
    """The unit of a part of a period, such as seat-days; a long name gives way to its days."""
    return f"{unit}-days" if len(unit) + 5 <= UNIT_MAX else "days"


def _overage(
    running: Running,
    item: Item,
    served: Span,
    overage_by_day: Sequence[tuple[date, Decimal]],
    currency: str,
) -> Line | None:
    used = sum((amount for day, amount in overage_by_day if day in served), ZERO)
    if not used:
        return None
    rated = pricing.rate(item.price, used)
    net = quantize(rated.amount, currency)
    explanation = _explanation(item, rated, currency, net) | {
        "credits_beyond_grants": plain(used),
        "period": [served.start.isoformat(), served.end.isoformat()],
        "exact": plain(rated.amount),
    }
    if item.price.model == "unit":
        shape = (used, item.unit, item.price.unit_price)
        base = int(item.price.base_quantity)
    else:
        # One lot at its sum, because tiers have no single price; the detail says how much it was.
        lot = _line(running, item, served, (Decimal(1), "lot", net), 1, net, explanation)
        return replace(lot, detail=f"{plain(used)} {item.unit}")
    return _line(running, item, served, shape, base, net, explanation)


def _line(
    running: Running,
    item: Item,
    served: Span,
    shape: _Shape,
    base_quantity: int,
    net: Decimal,
    explanation: dict[str, Any],
) -> Line:
    quantity, unit, unit_price = shape
    return Line(
        subscription_id=running.subscription_id,
        price_id=item.price_id,
        description=item.label,
        product=item.product,
        quantity=quantity,
        unit=unit,
        unit_price=unit_price,
        base_quantity=base_quantity,
        net=net,
        supply_from=served.start,
        supply_to=served.end,
        in_advance=item.billed == "advance" and item.role == "fee",
        explanation=explanation,
    )


def _explanation(item: Item, rated: pricing.Rated, currency: str, net: Decimal) -> dict[str, Any]:
    return {
        "role": item.role,
        "price_id": item.price_id,
        "model": item.price.model,
        "tiers": rated.explanation(),
        "base_quantity": plain(item.price.base_quantity),
        "rounded_to": f"{exponent(currency)} decimals, halves away from zero",
        "net": plain(net),
        "currency": currency,
    }
