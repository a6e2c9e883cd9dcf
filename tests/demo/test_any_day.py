"""The demonstration can be made on any day of any year, also in a month's first minutes."""

from datetime import UTC, datetime

import pytest

from billing import demo, reconciliation
from billing.models import Invoice, InvoiceRun, LegalEntity

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


@pytest.mark.parametrize(
    "at",
    [
        datetime(2028, 3, 1, 0, 5, tzinfo=UTC),
        datetime(2027, 1, 3, 23, 55, tzinfo=UTC),
    ],
    ids=str,
)
def test_made_at(fresh_database, at):
    demo.create(at)
    assert set(Invoice.objects.values_list("state", flat=True)) == {
        "draft",
        "in_review",
        "approved",
        "issued",
    }
    assert InvoiceRun.objects.filter(state="in_review").count() == 1
    for entity in LegalEntity.objects.all():
        assert all(check.holds for check in reconciliation.reconcile(entity.pk))
