"""Turn a quantity and a price into an exact amount, and say which tiers it entered.

Order: convert and round the quantity, subtract what is included, rate, round the line, percentage
discount, maximum against what is already billed, minimum on the period's last bill. Part of a
period costs `f(prior + q) − f(prior)`. Amounts are exact `Fraction`s of the price's currency (or of
credits) until `bill` rounds the line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from billing.rules.money import ZERO, Exact, Rounding, Unit, plain, quantize

Model = Literal["unit", "package", "graduated", "volume", "graduated_percentage", "passthrough"]
TIERED: Final = frozenset({"graduated", "volume", "graduated_percentage"})


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung of a tiered price."""

    up_to: Decimal | None  # units, inclusive; None means "and everything above"
    unit_price: Decimal = ZERO  # per unit in the tier
    flat: Decimal = ZERO  # due once when the tier is entered
    rate: Decimal = ZERO  # percent of the quantity, for graduated percentages


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a metered quantity becomes the quantity that is priced."""

    operation: Literal["multiply", "divide"]
    factor: Decimal
    rounding: Rounding | None = None
    places: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """The terms of one item. `unit_price` pays `base_quantity` units, or one whole package."""

    model: Model
    unit_price: Decimal = ZERO
    base_quantity: Decimal = Decimal(1)  # the package size when the model is "package"
    tiers: tuple[Tier, ...] = ()
    included: Decimal = ZERO  # units of the period that cost nothing
    conversion: Conversion | None = None
    flat: Decimal = ZERO  # due once per period, whatever the quantity
    tier_quantity: Decimal | None = None  # chooses the volume tier; the priced quantity if None

    def __post_init__(self) -> None:
        if self.base_quantity <= 0:
            raise ValueError(f"a price is for more than {self.base_quantity} units")
        if self.model in TIERED:
            check_tiers(self.tiers)


@dataclass(frozen=True, slots=True)
class Step:
    """One entered tier, or the only one: `quantity` units cost `amount`, its flat included."""

    quantity: Fraction
    unit_price: Decimal
    flat: Decimal
    amount: Fraction
    up_to: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """What a quantity costs, exactly, and how that came about."""

    amount: Fraction
    quantity: Fraction  # priced units: converted, less included
    steps: tuple[Step, ...]

    def explanation(self) -> list[dict[str, str]]:
        """The entered tiers as plain text values, fit for JSON and for a person."""
        return [
            {
                "quantity": plain(step.quantity),
                "unit_price": plain(step.unit_price),
                "flat": plain(step.flat),
                "amount": plain(step.amount),
                "up_to": "" if step.up_to is None else plain(step.up_to),
            }
            for step in self.steps
        ]


@dataclass(frozen=True, slots=True)
class Billed:
    """One bill for part or all of a period, booked money; `amount` is the sum of the rest."""

    line: Decimal  # the rated amount, rounded
    discount: Decimal  # positive, taken off
    over_maximum: Decimal  # positive, taken off because the period's maximum is reached
    minimum: Decimal  # added on the last bill, a line of its own
    amount: Decimal
    rated: Rated


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise ValueError unless the tiers ascend and only the last one is open."""
    if not tiers:
        raise ValueError("a tiered price needs tiers")
    bounds = [tier.up_to for tier in tiers]
    if bounds[-1] is not None:
        raise ValueError("the last tier must be open, so that every quantity has a price")
    closed = [bound for bound in bounds[:-1] if bound is not None]
    if len(closed) != len(bounds) - 1:
        raise ValueError("only the last tier may be open")
    if any(high <= low for low, high in zip([ZERO, *closed], closed, strict=False)):
        raise ValueError("the bounds of tiers must ascend from above zero")


def price_from(
    model: Model,
    *,
    unit_price: Decimal | None = None,
    base_quantity: Decimal | int = 1,
    tiers: Sequence[dict[str, Any]] = (),
    included: Decimal = ZERO,
) -> Price:
    """A price from stored terms; `tiers` are JSON objects with up_to, unit, flat, rate as text."""
    return Price(
        model=model,
        unit_price=ZERO if unit_price is None else unit_price,
        base_quantity=Decimal(base_quantity),
        tiers=tiers_from(tiers),
        included=included,
    )


def tiers_from(tiers: Sequence[dict[str, Any]]) -> tuple[Tier, ...]:
    """Tiers from JSON objects with up_to, unit, flat and rate as text."""
    return tuple(
        Tier(
            up_to=None if tier.get("up_to") is None else Decimal(tier["up_to"]),
            unit_price=Decimal(tier.get("unit") or 0),
            flat=Decimal(tier.get("flat") or 0),
            rate=Decimal(tier.get("rate") or 0),
        )
        for tier in tiers
    )


def convert(quantity: Exact, conversion: Conversion | None) -> Fraction:
    """The priced quantity of a metered one: multiplied or divided, then rounded if asked.

    >>> convert(2600, Conversion("divide", Decimal(1000), "half_up"))
    Fraction(3, 1)
    """
    exact = Fraction(quantity)
    if conversion is None:
        return exact
    factor = Fraction(conversion.factor)
    exact = exact * factor if conversion.operation == "multiply" else exact / factor
    if conversion.rounding is None:
        return exact
    return Fraction(quantize(exact, conversion.places, rounding=conversion.rounding))


def billable(quantity: Exact, included: Exact, prior: Exact = 0) -> Fraction:
    """Units of `quantity` beyond the included ones, which the period's first units use up.

    >>> billable(15, 10, prior=5)
    Fraction(10, 1)
    """
    before = max(Fraction(prior) - Fraction(included), Fraction(0))
    return max(Fraction(prior) + Fraction(quantity) - Fraction(included), Fraction(0)) - before


def rate(price: Price, quantity: Exact) -> Rated:
    """What `quantity` metered units cost over a whole period. Negative quantities cost as zero.

    >>> terms = Price("graduated", tiers=(Tier(Decimal(100), Decimal("0.10")),
    ...                                   Tier(None, Decimal("0.05"))))
    >>> rate(terms, 150).amount
    Fraction(25, 2)
    """
    priced = convert(quantity, price.conversion) - Fraction(price.included)
    priced = max(priced, Fraction(0))
    steps = _STEPS[price.model](price, priced)
    amount = sum((step.amount for step in steps), Fraction(price.flat))
    return Rated(amount, priced, tuple(steps))


def rate_part(
    price: Price, quantity: Exact, prior: Exact, *, first: bool = False, final: bool = True
) -> Rated:
    """What a further part of a period costs: `f(prior + quantity) − f(prior)`.

    A volume price is only known at the period's end: nothing until `final`, all of it then. The
    `first` bill of a period carries the fixed parts. `steps` explain the whole so far.
    """
    if price.model == "volume" and not final:
        return Rated(Fraction(0), Fraction(0), ())
    whole = rate(price, Fraction(quantity) + Fraction(prior))
    if first or price.model == "volume":
        return whole
    before = rate(price, prior)
    return Rated(whole.amount - before.amount, whole.quantity - before.quantity, whole.steps)


def bill(
    price: Price,
    quantity: Exact,
    unit: Unit,
    *,
    prior_quantity: Exact = 0,
    prior_billed: Decimal = ZERO,
    discount_percent: Exact = 0,
    minimum: Decimal | None = None,
    maximum: Decimal | None = None,
    final: bool = True,
) -> Billed:
    """Bill part or all of a period, rounded to the unit (a currency, or the places of credits).

    prior_quantity, prior_billed: what earlier bills of the same period held.
    maximum caps, minimum fills up the period's sum; the minimum only on the `final` bill.
    """
    first = not prior_quantity and not prior_billed
    rated = rate_part(price, quantity, prior_quantity, first=first, final=final)
    line = quantize(rated.amount, unit)
    discount = quantize(Fraction(line) * Fraction(discount_percent) / 100, unit)
    charged = line - discount
    over = ZERO
    if maximum is not None:
        over = max(charged - max(maximum - prior_billed, ZERO), ZERO)
    topped = ZERO
    if minimum is not None and final:
        topped = max(minimum - prior_billed - (charged - over), ZERO)
    return Billed(line, discount, over, topped, charged - over + topped, rated)


def percentage(
    units: Exact, events: int, rate_percent: Exact, *, fixed: Exact = 0, free: "Free"
) -> Fraction:
    """`(units − free)·rate + fixed·paid events` over a period, exact.

    >>> percentage(800, 4, Decimal("1.3"), fixed=2, free=Free(Fraction(400), 3))
    Fraction(36, 5)
    """
    paid_units = max(Fraction(units) - free.units, Fraction(0))
    paid_events = max(events - free.events, 0) if units else 0
    return paid_units * Fraction(rate_percent) / 100 + paid_events * Fraction(fixed)


@dataclass(frozen=True, slots=True)
class Free:
    """What of a period's events costs nothing."""

    units: Fraction = Fraction(0)
    events: int = 0


def free_of(running_total: Sequence[Exact], free_total: Exact | None) -> Free:
    """The allowance: the events whose cumulative units are listed, at most `free_total` units."""
    if not running_total:
        return Free()
    if free_total is None:
        return Free(Fraction(running_total[-1]), len(running_total))
    limit = Fraction(free_total)
    within = sum(1 for units in running_total if Fraction(units) <= limit)
    return Free(min(Fraction(running_total[-1]), limit), within)


def percentage_of_events(
    events: Sequence[Exact],
    rate_percent: Exact,
    *,
    fixed: Exact = 0,
    free_events: int = 0,
    free_total: Exact | None = None,
    minimum: Exact | None = None,
    maximum: Exact | None = None,
) -> Fraction:
    """Each event costs `units·rate + fixed`, held between minimum and maximum; exact.

    The first events are free: `free_events` of them (0: no such limit), up to `free_total` units.
    An event that is free in part pays for the rest; one that is wholly free pays nothing.
    """
    amount = Fraction(0)
    left = None if free_total is None else Fraction(free_total)
    grants_any = bool(free_events) or left is not None
    for number, event in enumerate(events):
        units = Fraction(event)
        covered = Fraction(0)
        if grants_any and (not free_events or number < free_events):
            covered = units if left is None else min(units, left)
            left = None if left is None else left - covered
        if covered < units:
            cost = (units - covered) * Fraction(rate_percent) / 100 + Fraction(fixed)
            cost = cost if minimum is None else max(cost, Fraction(minimum))
            amount += cost if maximum is None else min(cost, Fraction(maximum))
    return amount


@dataclass(frozen=True, slots=True)
class BlockTier:
    """A tier that sells whole blocks; `blocks_max` None is unlimited."""

    block_size: Decimal
    block_price: Decimal
    blocks_max: int | None = None


def blocks(tiers: Sequence[BlockTier], quantity: Exact) -> list[Fraction]:
    """Tiers filled in order, a started block counts in full: the amount of each entered tier."""
    left = Fraction(quantity)
    amounts = []
    for tier in tiers:
        if left <= 0:
            break
        count = started(left, tier.block_size)
        if tier.blocks_max is not None:
            count = min(count, tier.blocks_max)
        amounts.append(count * Fraction(tier.block_price))
        left -= count * Fraction(tier.block_size)
    if left > 0:
        raise ValueError(f"no tier covers the last {plain(left)} units")
    return amounts


def top_block(tiers: Sequence[BlockTier], quantity: Exact) -> Fraction:
    """The tier that the whole quantity reaches prices all of it in its own blocks."""
    capacity = Fraction(0)
    for tier in tiers:
        if tier.blocks_max is not None:
            capacity += tier.blocks_max * Fraction(tier.block_size)
        if tier.blocks_max is None or Fraction(quantity) <= capacity:
            return started(quantity, tier.block_size) * Fraction(tier.block_price)
    raise ValueError(f"no tier reaches {plain(quantity)} units")


def part_of(served: Exact | str, whole: Exact | str) -> Fraction:
    """A part of a whole, such as days of a period."""
    return Fraction(served) / Fraction(whole)


def beyond_included(
    quantity: Exact, included: Exact, part: Fraction, unit_price: Exact
) -> tuple[Fraction, Fraction]:
    """Units beyond those included in part of a period, and what they cost; both exact.

    What is included is prorated like the fee, and not rounded.
    """
    units = billable(quantity, Fraction(included) * part)
    return units, units * Fraction(unit_price)


def _unit(price: Price, quantity: Fraction) -> list[Step]:
    amount = quantity * Fraction(price.unit_price) / Fraction(price.base_quantity)
    return [Step(quantity, price.unit_price, ZERO, amount)]


def _passthrough(price: Price, quantity: Fraction) -> list[Step]:
    return [Step(quantity, Decimal(1), ZERO, quantity)]


def _package(price: Price, quantity: Fraction) -> list[Step]:
    packages = started(quantity, price.base_quantity)
    return [Step(Fraction(packages), price.unit_price, ZERO, packages * Fraction(price.unit_price))]


def started(quantity: Exact, size: Exact) -> int:
    """How many packages or blocks of `size` units are begun.

    >>> started(Decimal("10.5"), 10)
    2
    """
    return -((-Fraction(quantity)) // Fraction(size))


def _graduated(price: Price, quantity: Fraction) -> list[Step]:
    steps = []
    low = Fraction(0)
    for number, tier in enumerate(price.tiers):
        if number and quantity <= low:
            break
        high = quantity if tier.up_to is None else min(quantity, Fraction(tier.up_to))
        amount = (high - low) * Fraction(_tier_price(price, tier)) + Fraction(tier.flat)
        steps.append(Step(high - low, _tier_price(price, tier), tier.flat, amount, tier.up_to))
        low = high
    return steps


def _tier_price(price: Price, tier: Tier) -> Decimal:
    return tier.rate / 100 if price.model == "graduated_percentage" else tier.unit_price


def _volume(price: Price, quantity: Fraction) -> list[Step]:
    reached = quantity if price.tier_quantity is None else Fraction(price.tier_quantity)
    tier = next(t for t in price.tiers if t.up_to is None or reached <= Fraction(t.up_to))
    amount = quantity * Fraction(tier.unit_price) + Fraction(tier.flat)
    return [Step(quantity, tier.unit_price, tier.flat, amount, tier.up_to)]


_STEPS: Final[dict[str, Callable[[Price, Fraction], list[Step]]]] = {
    "unit": _unit,
    "package": _package,
    "graduated": _graduated,
    "volume": _volume,
    "graduated_percentage": _graduated,
    "passthrough": _passthrough,
}
