"""Days of a time zone and the instants they begin: where the customer's calendar meets UTC.

A day begins at its first instant in the zone, whatever the clocks do that night; so consecutive
days, and consecutive periods, share their boundary instant without gap or overlap.
"""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from billing.rules.periods import Span


def day_in(instant: datetime, zone: str) -> date:
    """The day an aware instant falls on in a zone.

    >>> day_in(datetime(2026, 11, 30, 23, 30, tzinfo=UTC), "Europe/Dublin")
    datetime.date(2026, 11, 30)
    """
    if instant.tzinfo is None:
        raise ValueError("an instant has a time zone")
    return instant.astimezone(ZoneInfo(zone)).date()


def begins(day: date, zone: str) -> datetime:
    """The first instant of a day in a zone, in UTC.

    >>> begins(date(2026, 6, 1), "Europe/Dublin")
    datetime.datetime(2026, 5, 31, 23, 0, tzinfo=datetime.timezone.utc)
    """
    return datetime.combine(day, time.min, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def instants(span: Span, zone: str) -> tuple[datetime, datetime]:
    """The half-open instants `[from, to)` of a span of days, in UTC."""
    return begins(span.start, zone), begins(span.end, zone)
