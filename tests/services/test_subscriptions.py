"""Customers start on published terms, with periods counted from the right day."""

from datetime import date

import pytest
from django.db import DatabaseError, transaction

from billing import subscriptions
from billing.models import AuditEvent, PlanVersion, Project, Subscription
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("alignment", "interval", "anchor"),
    [
        ("calendar", "month", date(2026, 11, 1)),
        ("anniversary", "month", date(2026, 11, 17)),
        ("calendar", "quarter", date(2026, 10, 1)),
        ("calendar", "year", date(2026, 1, 1)),
        ("calendar", "week", date(2026, 11, 16)),
    ],
)
def test_the_anchor_follows_the_alignment(alignment, interval, anchor):
    plan = make.version(alignment=alignment, interval=interval)
    made = make.subscribe(make.customer(make.seller()), plan, date(2026, 11, 17))
    assert (made.anchor_on, made.started_on) == (anchor, date(2026, 11, 17))


def test_starting_is_audited():
    who, clerk = make.customer(make.seller()), make.person()
    made = subscriptions.start(
        customer_id=who.pk,
        plan_version_id=make.version().pk,
        started_on=date(2026, 11, 1),
        actor_id=clerk.pk,
    )
    event = AuditEvent.objects.get(subject=f"subscription:{made.pk}")
    assert (event.actor_id, event.customer_id) == (clerk.pk, who.pk)


@pytest.mark.parametrize("state", ["draft", "archived"])
def test_only_published_terms_are_on_sale(state):
    plan = make.version(publish=state == "archived")
    PlanVersion.objects.filter(pk=plan.pk).update(state=state)
    with pytest.raises(subscriptions.NotOnSale):
        make.subscribe(make.customer(make.seller()), plan, date(2026, 11, 1))


def test_a_project_of_another_customer_is_refused():
    entity = make.seller()
    who, other = make.customer(entity), make.customer(entity)
    project = Project.objects.create(customer=other, code="P", name="P")
    plan = make.version()
    with pytest.raises(DatabaseError), transaction.atomic():
        make.subscribe(who, plan, date(2026, 11, 1), project_id=project.pk)


def test_a_subscription_has_a_quantity_and_ends_after_it_starts():
    made = make.subscribe(make.customer(make.seller()), make.version(), date(2026, 11, 5))
    for change in ({"quantity": 0}, {"ended_on": date(2026, 11, 4)}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Subscription.objects.filter(pk=made.pk).update(**change)
