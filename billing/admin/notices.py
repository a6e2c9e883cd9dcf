"""Notices over every page: demonstration data, and a worker or clock that does not answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils.translation import gettext as _

from billing.admin.scope import Scope
from billing.models import Heartbeat, LegalEntity

QUIET_AFTER: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence over the page; kind is warn or bad."""

    kind: str
    text: str


def build(scope: Scope, *, at: datetime) -> list[Notice]:
    """The notices for one reader."""
    found = []
    if LegalEntity.objects.filter(is_demo=True).exists():
        found.append(
            Notice("warn", _("You are looking at demonstration data. Nothing is sent to anyone."))
        )
    if scope.sees_runs:
        found += [
            Notice(
                "bad",
                _QUIET[beat.name] % {"minutes": int((at - beat.seen_at).total_seconds() // 60)},
            )
            for beat in Heartbeat.objects.filter(
                seen_at__lt=at - QUIET_AFTER, name__in=list(_QUIET)
            )
        ]
    return found


_QUIET: Final = {
    "clock": "The clock has not ticked for %(minutes)s minutes: runs and expiries wait. "
    "Start it again with the site.",
    "worker": "No worker has answered for %(minutes)s minutes: runs and documents wait. "
    "Start it again with the site.",
}
