"""One person asks, another decides, once."""

import pytest
from django.db import DatabaseError, transaction

from billing import approvals, audit
from billing.errors import IllegalTransition, NotPermitted
from billing.models import ApprovalDecision, AuditEvent
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked():
    entity, clerk, admin = make.seller(), make.person(), make.person()
    request = approvals.request(
        subject=make.unique("thing:"),
        summary="Do the thing",
        legal_entity_id=entity.pk,
        requested_by_id=clerk.pk,
        reason="x" * 900,
    )
    return request, clerk, admin


def test_asking_again_gives_the_first_request(asked):
    request, _, admin = asked
    again = approvals.request(
        subject=request.subject,
        summary="Another",
        legal_entity_id=request.legal_entity_id,
        requested_by_id=admin.pk,
    )
    assert again.pk == request.pk
    assert again.requested_by_id != admin.pk


@pytest.mark.parametrize("is_approved", [True, False])
def test_another_person_decides_once(asked, is_approved):
    request, _, admin = asked
    decision = approvals.decide(
        request.pk, decided_by_id=admin.pk, is_approved=is_approved, reason="seen"
    )
    assert (decision.is_approved, decision.reason) == (is_approved, "seen")
    with pytest.raises(IllegalTransition):
        approvals.decide(request.pk, decided_by_id=make.person().pk, is_approved=True)


def test_nobody_decides_on_their_own_request(asked):
    request, clerk, _ = asked
    with pytest.raises(NotPermitted):
        approvals.decide(request.pk, decided_by_id=clerk.pk, is_approved=True)
    with pytest.raises(DatabaseError, match="own request"), transaction.atomic():
        ApprovalDecision.objects.create(approval=request, decided_by=clerk, is_approved=True)


def test_the_asker_cannot_become_someone_else_after_the_decision(asked):
    """Otherwise the decider could be written in as the one who did not ask."""
    request, _, admin = asked
    approvals.decide(request.pk, decided_by_id=admin.pk, is_approved=True)
    with pytest.raises(DatabaseError), transaction.atomic():
        type(request).objects.filter(pk=request.pk).update(requested_by=admin)


def test_an_audit_event_keeps_who_what_and_why():
    who = make.person()
    audit.record(
        "thing done", subject="thing:1", actor_id=who.pk, reason="y" * 900, after={"a": "b"}
    )
    event = AuditEvent.objects.get(actor=who)
    assert (event.action, event.subject, event.after) == ("thing done", "thing:1", {"a": "b"})
    assert len(event.reason) == 500
