"""The demonstration is plausible, complete, consistent and made once."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from django.db import transaction
from django.db.models import Count, F, Q, Sum

from accounts import access
from accounts.models import RoleAssignment, User
from billing import demo, payments, reconciliation
from billing.demo import data
from billing.models import (
    ApprovalDecision,
    CreditBalance,
    CreditGrant,
    Customer,
    Hold,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceRun,
    LegalEntity,
    Payment,
    PaymentMethod,
    PlanVersion,
    RunItem,
    TaxRate,
    UsageEvent,
)
from tests.demo.conftest import AT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

Sums = dict[str, int]


def of(model, field: str) -> Sums:
    return dict(model.objects.values_list(field).annotate(Count("pk")))


def test_four_people_get_a_password_each(told):
    assert told.is_new
    assert len({login.password for login in told.people}) == 4
    for login in told.people:
        user = User.objects.get(username=login.username)
        assert user.is_demo
        assert user.check_password(login.password)


def test_the_manager_sees_exactly_two_customers(told):
    manager = User.objects.get(username="demo-manager")
    seen = access.visible_customer_ids(manager, "view_invoices", AT)
    codes = Customer.objects.filter(pk__in=seen).values_list("code", flat=True)
    assert set(codes) == {"C-10427", "C-10588"}
    assert Invoice.objects.filter(customer__in=seen, state="issued").exists()


def test_the_house_roles_reach_every_customer(told):
    for name in ("demo-finance", "demo-clerk", "demo-auditor"):
        user = User.objects.get(username=name)
        assert access.visible_customer_ids(user, "view_invoices", AT) is access.EVERYTHING
    auditor = User.objects.get(username="demo-auditor")
    assert access.visible_customer_ids(auditor, "issue_invoices", AT) == frozenset()


def test_everything_is_labelled(told):
    assert set(LegalEntity.objects.values_list("is_demo", flat=True)) == {True}
    snapshots = Invoice.objects.filter(state="issued").values_list("snapshot__is_demo", flat=True)
    assert set(snapshots) == {True}


def test_customers_live_in_several_countries_and_currencies(told):
    assert 38 <= Customer.objects.count() <= 45
    assert Customer.objects.values("country").distinct().count() >= 12
    assert set(Customer.objects.values_list("currency", flat=True)) >= {"EUR", "USD", "GBP", "CHF"}
    assert Customer.objects.filter(kind="consumer").exists()


def test_usage_spans_three_months_with_every_outcome(told):
    assert 3000 <= UsageEvent.objects.count() <= 10000
    first = UsageEvent.objects.earliest("occurred_at").occurred_at
    last = UsageEvent.objects.latest("occurred_at").occurred_at
    assert first < AT - timedelta(days=90)
    assert AT - timedelta(days=3) < last < AT
    assert set(of(UsageEvent, "outcome")) == {"charged", "free", "held", "refused", "unpriced"}


def test_invoices_stand_in_every_state(told):
    assert set(of(Invoice, "state")) == {"draft", "in_review", "approved", "issued"}


def test_runs_are_issued_but_for_one_that_waits_for_its_approval(told):
    waiting = InvoiceRun.objects.get(state="in_review")
    assert waiting.legal_entity.code == data.HELD_BACK
    assert set(of(InvoiceRun, "state")) == {"in_review", "delivering"}
    assert not ApprovalDecision.objects.filter(
        approval__subject__startswith=f"run:{waiting.pk}:"
    ).exists()
    for run in InvoiceRun.objects.exclude(pk=waiting.pk):
        assert run.author.username == "demo-clerk"
        assert run.approved_by.username == "demo-finance"


def test_two_customers_fail_with_a_reason_each(told):
    reasons = dict(RunItem.objects.filter(state="parked").values_list("customer__name", "reason"))
    assert "street" in reasons["Kestrel Motion"]
    assert "NOK" in reasons["Nordlys Foto AS"]
    assert len(reasons) == 2


def test_the_newest_runs_are_drawn_first(told):
    newest = max(run.period.upper for run in InvoiceRun.objects.all())
    first = InvoiceDocument.objects.filter(invoice__run__period__endswith=newest)
    assert first.exists()
    rest = InvoiceDocument.objects.exclude(pk__in=first.values("pk"))
    assert max(first.values_list("priority", flat=True)) < min(
        rest.values_list("priority", flat=True)
    )


def test_payments_are_full_part_over_and_missing(told):
    balances = InvoiceBalance.objects.filter(invoice__run__isnull=False)
    assert balances.filter(due=0).exists()
    assert balances.filter(due__gt=0, due__lt=F("invoice__payable")).exists()
    overdue = balances.filter(due=F("invoice__payable"), due_on__lt=AT.date())
    assert overdue.exists()
    over = Payment.objects.annotate(used=Sum("allocations__amount")).filter(used__lt=F("amount"))
    for payment in over:
        assert payments.customer_money(payment.customer_id, payment.currency) > 0
    assert over.exists()


def test_one_card_has_run_out(told):
    assert PaymentMethod.objects.filter(kind="card", valid_until__lt=AT.date()).count() == 1


def test_grants_stand_in_every_state(told):
    grants = CreditGrant.objects
    assert set(of(CreditGrant, "kind")) == {kind.value for kind in CreditGrant.Kind}
    assert grants.filter(voided_at__isnull=False).exists()
    assert grants.filter(effective_at__gt=AT).exists()
    assert grants.filter(expires_at__lt=AT, is_open=False).exists()
    soon = Q(expires_at__gt=AT, expires_at__lt=AT + timedelta(days=7), is_open=True)
    assert grants.filter(soon, kind="promotional").exists()
    assert grants.filter(held__gt=0).exists()
    assert grants.filter(remaining=0, kind="purchased").exists()
    assert grants.filter(meter_ids__len=1).exists()


def test_holds_stand_in_every_state(told):
    assert set(of(Hold, "state")) == {"open", "settled", "released", "lapsed"}


def test_plan_versions_stand_in_every_state(told):
    states = dict(
        PlanVersion.objects.filter(plan__code="demo-studio").values_list("number", "state")
    )
    assert states == {1: "archived", 2: "published", 3: "draft"}


def test_rates_cover_the_union_and_its_neighbours_without_gaps(told):
    from billing.rules.tax import EU

    countries = set(TaxRate.objects.values_list("country", flat=True))
    assert countries >= EU | {"GB", "CH", "NO"}
    for country in countries:
        spans = [row.valid for row in TaxRate.objects.filter(country=country).order_by("valid")]
        assert all(a.upper == b.lower for a, b in pairwise(spans))
        assert spans[-1].upper is None
    assert TaxRate.objects.get(country="EE", valid__contains=AT.date()).rate == Decimal(24)
    assert TaxRate.objects.get(country="FI", valid__contains=AT.date()).rate == Decimal("25.5")


def test_every_sum_agrees(told):
    for entity in LegalEntity.objects.all():
        wrong = [c.name for c in reconciliation.reconcile(entity.pk) if not c.holds]
        assert not wrong, (entity.code, wrong)


def test_numbers_and_dates_run_forward(told):
    for entity in LegalEntity.objects.all():
        rows = list(
            Invoice.objects.filter(legal_entity=entity, state="issued")
            .order_by("sequence")
            .values_list("sequence", "issued_on")
        )
        assert [n for n, _ in rows] == list(range(1, len(rows) + 1))
        assert [d for _, d in rows] == sorted(d for _, d in rows)
        assert rows[-1][1] <= AT.date()


def test_nothing_happens_after_now(told):
    for entries in (
        CreditBalance.objects.filter(last_at__gt=AT),
        Payment.objects.filter(received_on__gt=AT.date()),
    ):
        assert not entries.exists()


def test_running_it_again_makes_nothing(told):
    before = (Invoice.objects.count(), UsageEvent.objects.count(), RoleAssignment.objects.count())
    again = demo.create(AT + timedelta(hours=1))
    assert not again.is_new
    assert {login.password for login in again.people} == {None}
    after = (Invoice.objects.count(), UsageEvent.objects.count(), RoleAssignment.objects.count())
    assert after == before


def test_new_passwords_are_made_on_demand_only(told):
    with transaction.atomic():
        again = demo.create(AT, new_passwords=True)
        for login in again.people:
            assert User.objects.get(username=login.username).check_password(login.password)
        transaction.set_rollback(True)
