"""A run goes step by step, and is approved by somebody who is not its author, whoever writes."""

from datetime import date

import pytest
from django.db import DatabaseError, transaction

from billing import runs
from billing.models import Approval, ApprovalDecision, Invoice, InvoiceRun, RunItem
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def in_review():
    entity, author = make.seller(), make.person()
    make.customers_with_fee(entity, 1, make.version())
    run = make.plan_run(entity, author)
    runs.start(run.pk, at=NOW)
    make.work(run.pk)
    run.refresh_from_db()
    assert run.state == "in_review"
    return run


def refused(run, says, **change):
    with pytest.raises(DatabaseError, match=says), transaction.atomic():
        InvoiceRun.objects.filter(pk=run.pk).update(**change)


def test_a_run_starts_as_planned():
    run = in_review()
    run.pk, run.scope_key = None, make.unique()
    with pytest.raises(DatabaseError, match="planned"), transaction.atomic():
        run.save()


@pytest.mark.parametrize(
    "change",
    [
        {"author": None},
        {"scope_key": "other"},
        {"period": (date(2020, 1, 1), date(2020, 2, 1))},
        {"legal_entity": None},
    ],
)
def test_a_run_keeps_what_it_was_planned_as(change):
    run = in_review()
    if "legal_entity" in change:
        change = {"legal_entity": make.seller()}
    refused(run, "keeps its", **change)
    refused(run, "keeps its", author=make.person())


def test_a_run_skips_no_step():
    run, other = in_review(), make.person()
    refused(run, "cannot become", state="delivering", approved_by=other)
    refused(run, "cannot become", state="done")
    refused(run, "keeps who approved", approved_by=other)


def test_a_run_is_approved_only_by_who_decided_so():
    run, checker = in_review(), make.person()
    refused(run, "nobody has approved", state="approved", approved_by=checker)
    request = Approval.objects.get(subject__startswith=f"run:{run.pk}:")
    ApprovalDecision.objects.create(approval=request, decided_by=checker, is_approved=True)
    refused(run, "nobody has approved", state="approved", approved_by=make.person())
    refused(run, "maker_is_not_checker", state="approved", approved_by=run.author)
    InvoiceRun.objects.filter(pk=run.pk).update(state="approved", approved_by=checker)


def test_a_refusal_or_an_older_approval_approves_nothing():
    run, checker = in_review(), make.person()
    request = Approval.objects.get(subject__startswith=f"run:{run.pk}:")
    ApprovalDecision.objects.create(approval=request, decided_by=checker, is_approved=False)
    refused(run, "nobody has approved", state="approved", approved_by=checker)

    run = in_review()
    request = Approval.objects.get(subject__startswith=f"run:{run.pk}:")
    ApprovalDecision.objects.create(approval=request, decided_by=checker, is_approved=True)
    request.pk, request.subject = None, f"run:{run.pk}:2"
    request.save()
    refused(run, "nobody has approved", state="approved", approved_by=checker)


def test_a_stopped_run_goes_on_where_it_was():
    run = in_review()
    runs.stop(run.pk, actor_id=run.author_id, reason="x")
    refused(run, "where it was stopped", resume_state="drafting")
    refused(run, "cannot become", state="drafting")
    runs.resume(run.pk, actor_id=run.author_id)
    run.refresh_from_db()
    assert (run.state, run.resume_state) == ("in_review", "")


def test_a_begun_run_and_its_customers_are_kept():
    run = in_review()
    with pytest.raises(DatabaseError, match="stay on it"), transaction.atomic():
        RunItem.objects.filter(run=run).delete()
    planned = make.plan_run(make.seller(), make.person())
    planned.delete()


@pytest.mark.parametrize("change", [{"created_by": None}, {"run": None}, {"key": "other"}])
def test_an_invoice_keeps_its_author_and_its_run(change):
    invoice = Invoice.objects.get(run=in_review())
    with pytest.raises(DatabaseError, match="keeps its"), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(**change)
