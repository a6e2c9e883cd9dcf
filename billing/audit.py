"""The audit trail: one row for each business event, written in the event's own transaction."""

from collections.abc import Mapping
from typing import Any

from billing.models import AuditEvent


def record(
    action: str,
    *,
    subject: str,
    actor_id: int | None,
    customer_id: int | None = None,
    reason: str = "",
    request_id: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Append one event. `subject` names a row, such as invoice:12; no actor means the clock."""
    AuditEvent.objects.create(
        action=action,
        subject=subject,
        actor_id=actor_id,
        customer_id=customer_id,
        reason=reason[:500],
        request_id=request_id,
        before=dict(before or {}),
        after=dict(after or {}),
    )
