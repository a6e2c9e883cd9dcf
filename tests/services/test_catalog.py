"""Plans on sale are frozen, and only what can be billed goes on sale."""

from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from billing import catalog
from billing.errors import IllegalTransition, MissingData
from billing.models import AuditEvent, PlanVersion, Price
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def test_versions_of_a_plan_count_up():
    first = make.version()
    second = catalog.draft_version(
        first.plan.code, name="ignored", summary="", terms={}, prices=[make.fee()]
    )
    assert (second.plan_id, second.number, second.state) == (first.plan_id, 2, "draft")
    assert second.plan.name == "Studio"


def test_publishing_is_audited_and_happens_once():
    draft = make.version(publish=False)
    who = make.person()
    catalog.publish(draft.pk, at=NOW, actor_id=who.pk)
    draft.refresh_from_db()
    assert (draft.state, draft.published_at) == ("published", NOW)
    with pytest.raises(IllegalTransition):
        catalog.publish(draft.pk, at=NOW, actor_id=who.pk)
    assert AuditEvent.objects.filter(subject=f"plan_version:{draft.pk}", actor=who).count() == 1


def test_a_draft_can_still_be_edited():
    draft = make.version(publish=False)
    Price.objects.filter(plan_version=draft, code="fee").update(unit_price=Decimal("1.00"))
    PlanVersion.objects.filter(pk=draft.pk).update(allowance_credits=5)
    Price.objects.filter(plan_version=draft).delete()
    draft.delete()


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ([make.overage(), make.fee(currency="CHF")], "no price in CHF"),
        ([make.fee()], "no price"),
        ([make.overage(unit_price=None)], "has no price"),
        ([make.overage(), make.overage(code="again")], "keep one"),
        ([make.overage(currency="eur")], "cannot be billed"),
        ([make.overage(currency="credits")], "priced in credits"),
        ([make.overage(model="graduated", tiers=[])], "cannot be billed"),
        ([make.overage(model="volume", tiers=[{"up_to": "5", "unit": "1"}])], "cannot be billed"),
        ([make.overage(model="volume", tiers=[{"up_to": "x", "unit": "1"}])], "cannot be billed"),
        ([make.overage(model="volume", tiers=["x"])], "cannot be billed"),
    ],
)
def test_prices_that_could_not_be_billed_are_not_published(prices, says):
    draft = make.version(*prices, publish=False, overage_policy="invoice")
    with pytest.raises(MissingData, match=says):
        catalog.publish(draft.pk, at=NOW, actor_id=None)
    draft.refresh_from_db()
    assert draft.state == "draft"


def test_use_is_priced_once_per_meter_and_names_it():
    twice = make.version(
        make.usage_price(), make.usage_price(code="again"), publish=False, overage_policy="block"
    )
    with pytest.raises(MissingData, match="keep one"):
        catalog.publish(twice.pk, at=NOW, actor_id=None)
    nameless = make.version(make.usage_price(meter=None), publish=False, overage_policy="block")
    with pytest.raises(MissingData, match="meter"):
        catalog.publish(nameless.pk, at=NOW, actor_id=None)


@pytest.mark.parametrize(
    "change",
    [
        {"allowance_credits": 1},
        {"overage_policy": "block"},
        {"interval": "year"},
        {"number": 7},
        {"state": "draft"},
        {"published_at": None},
    ],
)
def test_a_published_version_keeps_its_terms(change):
    version = make.version()
    with pytest.raises(DatabaseError), transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk).update(**change)


def test_a_published_version_can_only_be_archived():
    version = make.version()
    PlanVersion.objects.filter(pk=version.pk).update(state="archived")
    with pytest.raises(DatabaseError), transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk).update(state="draft")
    with pytest.raises(DatabaseError), transaction.atomic():
        version.delete()


def test_a_published_price_never_changes_moves_or_goes():
    version, draft = make.version(), make.version(publish=False)
    price = version.prices.first()
    for change in ({"unit_price": Decimal(1)}, {"label": "x"}, {"plan_version": draft}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Price.objects.filter(pk=price.pk).update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        price.delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        Price.objects.create(plan_version=version, **make.fee(code="late"))
    with pytest.raises(DatabaseError), transaction.atomic():
        Price.objects.filter(plan_version=draft).update(plan_version=version)
