"""Billing periods: half-open `[start, end)` days counted from an anchor, and parts of them.

Boundary k is always the anchor plus k intervals, its day clipped to the month's end and restored
later (31 Jan, 28 Feb, 31 Mar); it is never derived from the boundary before it. Days are those of
the customer's zone; turning instants into days is the caller's.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, TypeVar

from billing.rules.money import Exact, Rounding, Unit, quantize

DayT = TypeVar("DayT", bound=date)  # a day, or an instant
Interval = Literal["day", "week", "month", "quarter", "year"]
Alignment = Literal["anniversary", "calendar", "fixed"]
DayCount = Literal["actual", "fixed_30"]

_DAYS: Final = {"day": 1, "week": 7}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_SHORTEST_MONTH: Final = 28  # days


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open days `[start, end)`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a span cannot end on {self.end}, before it starts on {self.start}")

    @property
    def days(self) -> int:
        """How many days the span holds."""
        return (self.end - self.start).days

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end

    def within(self, start: date, end: date | None) -> "Span":
        """The part that lies in `[start, end)`; empty (0 days) when there is none."""
        low = min(max(self.start, start), self.end)
        high = self.end if end is None else max(min(self.end, end), low)
        return Span(low, high)


@dataclass(frozen=True, slots=True)
class Period:
    """Period number `index` of an anchor: days `[start, end)`."""

    index: int
    start: date
    end: date

    @property
    def days(self) -> int:
        """How many days the period holds."""
        return (self.end - self.start).days

    @property
    def span(self) -> Span:
        """The days alone."""
        return Span(self.start, self.end)

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end


def add_months(anchor: DayT, months: int, *, day: int | None = None) -> DayT:
    """The anchor moved by months, on its own day or on `day`, clipped to the month's end.

    Instants keep their time of day.

    >>> add_months(date(2024, 1, 31), 1)
    datetime.date(2024, 2, 29)
    """
    position = anchor.year * 12 + anchor.month - 1 + months
    year, month = position // 12, position % 12 + 1
    wanted = day or anchor.day
    clipped = wanted if wanted <= _SHORTEST_MONTH else min(wanted, monthrange(year, month)[1])
    return anchor.replace(year=year, month=month, day=clipped)


def boundary(
    anchor: DayT, interval: Interval, count: int, k: int, *, day: int | None = None
) -> DayT:
    """Boundary k of the periods of `count` intervals that start at the anchor; k may be negative.

    day: the day of the month to come back to, where the anchor itself had to be clipped.

    >>> [boundary(date(2026, 1, 31), "month", 1, k).isoformat() for k in range(3)]
    ['2026-01-31', '2026-02-28', '2026-03-31']
    """
    if count < 1:
        raise ValueError(f"a period has at least one {interval}, not {count}")
    if interval in _DAYS:
        return anchor + timedelta(days=_DAYS[interval] * count * k)
    return add_months(anchor, _MONTHS[interval] * count * k, day=day)


def period(
    anchor: date, interval: Interval, count: int, k: int, *, day: int | None = None
) -> Period:
    """Period number k: from boundary k to boundary k + 1."""
    return Period(
        k,
        boundary(anchor, interval, count, k, day=day),
        boundary(anchor, interval, count, k + 1, day=day),
    )


def period_at(
    anchor: date, interval: Interval, count: int, at: date, *, day: int | None = None
) -> Period:
    """The period that holds `at`; before the anchor the numbers are negative.

    >>> period_at(date(2026, 1, 31), "month", 1, date(2026, 3, 30))
    Period(index=1, start=datetime.date(2026, 2, 28), end=datetime.date(2026, 3, 31))
    """
    if count < 1:
        raise ValueError(f"a period has at least one {interval}, not {count}")
    if interval in _DAYS:
        return period(anchor, interval, count, (at - anchor).days // (_DAYS[interval] * count))
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    k = months // (_MONTHS[interval] * count)
    if boundary(anchor, interval, count, k, day=day) > at:
        k -= 1
    elif boundary(anchor, interval, count, k + 1, day=day) <= at:
        k += 1
    return period(anchor, interval, count, k, day=day)


def periods(
    anchor: date,
    interval: Interval,
    count: int,
    start: date,
    end: date,
    *,
    day: int | None = None,
) -> Iterator[Period]:
    """Every period that shares a day with `[start, end)`, whole and in order."""
    if start >= end:
        return
    current = period_at(anchor, interval, count, start, day=day)
    while current.start < end:
        yield current
        current = period(anchor, interval, count, current.index + 1, day=day)


def aligned_anchor(
    start: date,
    interval: Interval,
    count: int = 1,
    *,
    alignment: Alignment = "anniversary",
    fixed_day: int | None = None,
) -> date:
    """The boundary on or before `start` from which the periods of a subscription are counted.

    anniversary: the start day itself. calendar: the first of the month, quarter or year, or the
    Monday, that `start` lies in (several months that divide a year count from January). fixed:
    the `fixed_day` of the month (clipped to its end; hand it on as `day`) in whole intervals from
    the month of the start; for weeks 1 is Monday.

    >>> aligned_anchor(date(2026, 2, 15), "month", alignment="fixed", fixed_day=31)
    datetime.date(2026, 1, 31)
    """
    if alignment == "anniversary" or interval == "day":
        return start
    if alignment == "calendar":
        return _calendar_anchor(start, interval, count)
    if fixed_day is None or not 1 <= fixed_day <= (7 if interval == "week" else 31):
        raise ValueError(f"a fixed alignment names a day of the {interval}, not {fixed_day}")
    if interval == "week":
        return start - timedelta(days=(start.isoweekday() - fixed_day) % 7)
    in_month = add_months(start, 0, day=fixed_day)
    return (
        in_month
        if in_month <= start
        else add_months(start, -_MONTHS[interval] * count, day=fixed_day)
    )


def first_boundary(start: date, interval: Interval, count: int, fixed_day: int) -> date:
    """The first boundary on or after `start` when periods turn on a fixed day.

    >>> first_boundary(date(2012, 1, 31), "year", 1, 30)
    datetime.date(2013, 1, 30)
    """
    anchor = aligned_anchor(start, interval, count, alignment="fixed", fixed_day=fixed_day)
    return start if anchor == start else boundary(anchor, interval, count, 1, day=fixed_day)


@dataclass(frozen=True, slots=True)
class Part:
    """The served days of one whole period."""

    served: Span
    whole: Period

    @property
    def fraction(self) -> Fraction:
        """D / N."""
        return fraction(self.served, self.whole)


def parts_begun(
    anchor: date,
    interval: Interval,
    count: int,
    *,
    start: date,
    end: date | None,
    through: date,
    day: int | None = None,
) -> Iterator[Part]:
    """The parts of a service `[start, end)` that billing in advance owes by the day `through`.

    Every part that has begun by then, the first and the last cut to the days served.
    """
    last = through if end is None else min(through, end - timedelta(days=1))
    for whole in periods(anchor, interval, count, start, last + timedelta(days=1), day=day):
        yield Part(whole.span.within(start, end), whole)


def cycles(
    start: date, interval: Interval, count: int = 1, *, split_on: date | None = None
) -> Iterator[Span]:
    """The endless cycles of a service that turns with the calendar.

    The first cycle is the rest of the calendar month, week or year, the following ones are whole;
    `split_on` (the day after a trial) cuts the cycle it falls into.
    """
    first = aligned_anchor(start, interval, 1, alignment="calendar")
    anchor = start if first == start else boundary(first, interval, 1, 1)
    bounds = [start] if anchor > start else []
    k = 0
    while True:
        bounds.append(boundary(anchor, interval, count, k))
        if len(bounds) > 1:
            yield from _cut(Span(bounds[-2], bounds[-1]), split_on)
        k += 1


def _cut(span: Span, on: date | None) -> list[Span]:
    if on is None or not span.start < on < span.end:
        return [span]
    return [Span(span.start, on), Span(on, span.end)]


def fraction(
    served: Span,
    whole: Span | Period,
    *,
    day_count: DayCount = "actual",
    days_not_charged: int = 0,
) -> Fraction:
    """D / N: the days served of the whole anchored period around them, between 0 and 1.

    `days_not_charged` (trial, pause) leave D and stay in N. With `fixed_30` every month counts 30
    days (shorter periods than a month ignore it).

    >>> february = Span(date(2026, 2, 1), date(2026, 3, 1))
    >>> fraction(Span(date(2026, 2, 15), date(2026, 3, 1)), february)
    Fraction(1, 2)
    """
    around = whole.span if isinstance(whole, Period) else whole
    inside = served.within(around.start, around.end)
    if around.days <= 0:
        raise ValueError(f"a period needs days: {around.start} to {around.end}")
    if day_count == "fixed_30" and around.days >= _SHORTEST_MONTH:
        days, days_whole = days_30(inside), _months_in(around) * 30
        if inside == around:
            days = days_whole
    else:
        days, days_whole = inside.days, around.days
    return min(Fraction(max(days - days_not_charged, 0), days_whole), Fraction(1))


def ratio(served: Span, whole: Span) -> Fraction:
    """Days served per days of one period, above 1 where the service is longer than the period."""
    return Fraction(served.days, whole.days)


def days_30(span: Span) -> int:
    """Days of a span when every month counts 30 of them."""
    return max(_months_in(span) * 30 + span.end.day - span.start.day, 0)


def fraction_30(served: Span) -> Fraction:
    """Part of one month of 30 days."""
    return Fraction(days_30(served), 30)


def _months_in(span: Span) -> int:
    return (span.end.year - span.start.year) * 12 + span.end.month - span.start.month


def prorated(
    price: Exact, part: Fraction, unit: Unit, *, rounding: Rounding = "half_up"
) -> Decimal:
    """A price for part of a period, rounded once: `round(P · D / N)`.

    >>> prorated(Decimal("29.00"), Fraction(1, 31), "EUR")
    Decimal('0.94')
    """
    return quantize(Fraction(price) * part, unit, rounding=rounding)


def cumulative_part(
    price: Exact, part_so_far: Fraction, already_charged: Decimal, unit: Unit
) -> Decimal:
    """What a further part of one period costs, so that the parts sum to the whole price.

    part_so_far: D / N from the period's start through this part, this part included.
    already_charged: booked amounts of the earlier parts of the same price and period.

    >>> cumulative_part(Decimal("29.00"), Fraction(2, 31), Decimal("0.94"), "EUR")
    Decimal('0.93')
    """
    return quantize(Fraction(price) * part_so_far, unit) - already_charged


def _calendar_anchor(start: date, interval: Interval, count: int) -> date:
    if interval == "week":
        return start - timedelta(days=start.weekday())
    if interval == "year":
        return date(start.year, 1, 1)
    months = _MONTHS[interval] * count
    if 12 % months:
        months = _MONTHS[interval]
    return date(start.year, (start.month - 1) // months * months + 1, 1)
