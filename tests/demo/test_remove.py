"""Removing the demonstration takes all of it and nothing else."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.apps import apps
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts.models import User
from billing import credits, demo, documents, metering, reconciliation, runs, subscriptions
from billing.models import (
    Customer,
    InvoiceDocument,
    InvoiceRun,
    LegalEntity,
    Meter,
    Plan,
    PlanVersion,
    TaxRate,
)
from tests.demo.conftest import AT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

DAY = date(2026, 11, 2)


def billed_customer() -> Customer:
    """A real customer, on a plan of the demonstration, billed once."""
    seller = LegalEntity.objects.create(
        code="REAL",
        name="Real Seller",
        legal_name="Real Seller Limited",
        street="1 Main Street",
        city="Dublin",
        country="IE",
        vat_id="IE6388047V",
        currency="EUR",
    )
    customer = Customer.objects.create(
        legal_entity=seller,
        code="R-1",
        name="Real Customer",
        street="2 Main Street",
        city="Cork",
        country="IE",
        currency="EUR",
    )
    version = PlanVersion.objects.get(plan__code="demo-studio", state="published")
    subscription = subscriptions.start(
        customer_id=customer.pk, plan_version_id=version.pk, started_on=DAY, actor_id=None
    )
    at = datetime(2026, 11, 3, 12, tzinfo=UTC)
    credits.ensure_allowances([subscription.pk], at=at, actor="test", request_id="test")
    metering.record_many(
        [
            metering.Use(
                customer_id=customer.pk,
                subscription_id=subscription.pk,
                meter_id=Meter.objects.get(code="demo-images").pk,
                key="one",
                occurred_at=at,
                quantity=Decimal(600),
            )
        ],
        actor="test",
        request_id="test",
    )
    clerk, finance = (User.objects.create(username=name) for name in ("real-1", "real-2"))
    run = runs.plan(
        legal_entity_id=seller.pk,
        period_from=date(2026, 11, 1),
        period_to=date(2026, 11, 10),
        author_id=clerk.pk,
        issue_on=date(2026, 11, 10),
    )
    for step in (
        lambda: runs.start(run.pk, at=AT),
        lambda: runs.approve(run.pk, by_id=finance.pk, at=AT),
        lambda: runs.issue(run.pk, actor_id=finance.pk),
    ):
        step()
        while runs.advance(run.pk, at=AT):
            pass
    return customer


def rows_of(customer: Customer) -> dict[str, int]:
    """How many rows each table has of one customer."""
    found = {}
    for model in apps.get_app_config("billing").get_models():
        if any(field.name == "customer" for field in model._meta.fields):
            found[model.__name__] = model.objects.filter(customer=customer.pk).count()
    return found


@pytest.fixture
def removed(told):
    """Remove the demonstration for one test; the files and rows are back afterwards."""
    with transaction.atomic():
        real = billed_customer()
        before = rows_of(real)
        ids = list(Customer.objects.exclude(pk=real.pk).values_list("pk", flat=True))
        drawn = InvoiceDocument.objects.filter(customer__legal_entity__code="TI").latest("pk")
        assert documents.render_one(drawn.pk, AT)
        file = InvoiceDocument.objects.get(pk=drawn.pk).storage_name
        mine = InvoiceDocument.objects.get(customer=real)
        assert documents.render_one(mine.pk, AT)
        kept = InvoiceDocument.objects.get(pk=mine.pk).storage_name
        result = demo.remove(AT + timedelta(minutes=1))
        yield result, real, before, ids, file, kept
        transaction.set_rollback(True)


def test_nothing_of_the_demonstration_is_left_and_real_data_are_as_before(removed):
    result, real, before, ids, file, kept = removed
    for model in apps.get_app_config("billing").get_models():
        if any(field.name == "customer" for field in model._meta.fields):
            assert not model.objects.filter(customer__in=ids).exists(), model.__name__
    assert list(LegalEntity.objects.values_list("code", flat=True)) == ["REAL"]
    assert list(Customer.objects.values_list("pk", flat=True)) == [real.pk]
    assert list(InvoiceRun.objects.values_list("legal_entity__code", flat=True)) == ["REAL"]
    assert rows_of(real) == before
    assert all(before[name] for name in ("LedgerEntry", "InvoiceLine", "Charge"))
    assert all(check.holds for check in reconciliation.reconcile(real.legal_entity_id))
    # The plan a real customer is on stays with its meters, the others go; VAT rates are facts.
    assert list(Plan.objects.values_list("code", flat=True)) == ["demo-studio"]
    assert TaxRate.objects.exists()
    assert not storages["documents"].exists(file)
    assert storages["documents"].exists(kept)
    assert result.files == 1
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # no foreign key points nowhere


def test_its_people_can_no_longer_log_in_and_return_with_it(removed):
    users = User.objects.filter(is_demo=True)
    assert users.count() == 4
    assert not any(user.is_active or user.has_usable_password() for user in users)
    again = demo.create(AT + timedelta(hours=1))
    assert again.is_new
    assert all(login.password for login in again.people)
    assert all(user.is_active for user in User.objects.filter(is_demo=True))


def test_the_command_asks_first(told, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    with pytest.raises(CommandError, match="Nothing was removed"):
        call_command("remove_demo")
    assert demo.exists()
