"""Requests by one person, decisions by another. Only records; the door that asked acts on them."""

from django.db import transaction

from billing.errors import IllegalTransition, NotPermitted
from billing.models import Approval, ApprovalDecision


def request(
    *,
    subject: str,
    summary: str,
    legal_entity_id: int,
    requested_by_id: int,
    customer_id: int | None = None,
    reason: str = "",
) -> Approval:
    """Ask for a decision on `subject`, such as run:12:1. Asking again gives the first request."""
    approval, _ = Approval.objects.get_or_create(
        subject=subject,
        defaults={
            "summary": summary,
            "legal_entity_id": legal_entity_id,
            "customer_id": customer_id,
            "requested_by_id": requested_by_id,
            "reason": reason[:500],
        },
    )
    return approval


@transaction.atomic
def decide(
    approval_id: int, *, decided_by_id: int, is_approved: bool, reason: str = ""
) -> ApprovalDecision:
    """Write the decision, once.

    Raises NotPermitted when the person asked for it themselves (the database refuses it too) and
    IllegalTransition when it is decided already.
    """
    approval = Approval.objects.select_for_update().get(pk=approval_id)
    if approval.requested_by_id == decided_by_id:
        raise NotPermitted("Another person must decide: nobody approves their own request.")
    if ApprovalDecision.objects.filter(approval=approval).exists():
        raise IllegalTransition(
            subject=f"the request “{approval.summary}”", state="decided", target="decided again"
        )
    return ApprovalDecision.objects.create(
        approval=approval,
        decided_by_id=decided_by_id,
        is_approved=is_approved,
        reason=reason[:500],
    )
