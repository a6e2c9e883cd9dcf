"""Money that arrived and credits that are given: by form, once, and only by who may."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import CreditGrant, InvoiceBalance, LedgerEntry, Payment
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = pytest.mark.django_db
TOKEN = "8d7c9a6e-1111-4222-8333-944445555666"


@pytest.fixture
def clerk(furnished: "House") -> Any:
    person = house.person("clerk-entries", name="Klara")
    house.give(person, "clerk")
    return person


def paid(customer: Any, amount: str = "116.62", **more: Any) -> dict[str, Any]:
    return {
        "token": TOKEN, "customer": customer.pk, "amount": amount, "currency": "",
        "received_on": "2026-11-20", "method": "transfer", "reference": "thanks", "payer": "",
    } | more  # fmt: skip


def test_a_payment_settles_the_oldest_invoice(
    client: Client, furnished: "House", clerk: Any
) -> None:
    customer = furnished.customers[1]
    due = InvoiceBalance.objects.get(customer=customer)
    client.force_login(clerk)
    answer = client.post(reverse("admin:billing_payment_record"), paid(customer, str(due.due)))
    payment = Payment.objects.get(customer=customer)
    assert answer["Location"] == reverse("admin:billing_payment_change", args=[payment.pk])
    due.refresh_from_db()
    assert due.due == 0
    assert payment.recorded_by == clerk


def test_a_form_sent_twice_records_one_payment(
    client: Client, furnished: "House", clerk: Any
) -> None:
    client.force_login(clerk)
    customer = furnished.customers[1]
    for _ in range(3):
        client.post(reverse("admin:billing_payment_record"), paid(customer))
    assert Payment.objects.filter(customer=customer).count() == 1


@pytest.mark.parametrize("amount", ["0", "-5", "1.005", "NaN", "1e400", "x", ""])
def test_an_amount_that_is_none_is_refused_kindly(
    client: Client, furnished: "House", clerk: Any, amount: str
) -> None:
    client.force_login(clerk)
    before = Payment.objects.count()
    answer = client.post(
        reverse("admin:billing_payment_record"), paid(furnished.customers[1], amount)
    )
    assert answer.status_code == 200
    assert Payment.objects.count() == before


def test_a_manager_records_no_payment(client: Client, furnished: "House") -> None:
    client.force_login(house.manager(furnished, furnished.customers[1]))
    url = reverse("admin:billing_payment_record")
    assert client.get(url).status_code == 403
    assert client.post(url, paid(furnished.customers[1])).status_code == 403
    assert "Record a payment" not in client.get("/billing/payment/").content.decode()


def test_the_form_offers_only_customers_of_the_reader(client: Client, furnished: "House") -> None:
    from accounts import roles
    from accounts.models import Role

    cashier = house.person("cashier")
    at = furnished.run.created_at  # type: ignore[union-attr]
    role = roles.define_role(
        Role(code="cashier", name="Cashier", summary="Takes money."),
        permissions=["view_payments", "record_payments"],
        actor=None,
        at=at,
    )
    own, stranger = furnished.customers[:2]
    roles.assign(user=cashier, role=role, customer_id=own.pk, valid_from=at, actor=None)
    client.force_login(cashier)
    url = reverse("admin:billing_payment_record")
    assert stranger.name not in client.get(f"{url}?customer={stranger.pk}").content.decode()
    assert client.post(url, paid(stranger)).status_code == 200
    assert not Payment.objects.filter(customer=stranger).exists()
    assert client.post(url, paid(own)).status_code == 302


def test_credits_are_given_for_a_reason_and_once(client: Client, furnished: "House") -> None:
    customer = furnished.customers[0]
    url = reverse("admin:billing_customer_give", args=[customer.pk])
    values = {"token": TOKEN, "amount": "250", "kind": "goodwill", "label": "Sorry"}
    client.force_login(furnished.author)
    assert client.post(url, values).status_code == 200  # no reason
    for _ in range(2):
        assert client.post(url, values | {"reason": "slow on Monday"}).status_code == 302
    grant = CreditGrant.objects.get(customer=customer, kind="goodwill")
    assert (grant.amount, grant.label, grant.expires_at) == (Decimal(250), "Sorry", None)
    entry = LedgerEntry.objects.get(grant=grant, kind="grant")
    assert (entry.actor, entry.reason) == (furnished.author.get_username(), "slow on Monday")


def test_who_may_not_give_credits_gives_none(
    client: Client, furnished: "House", clerk: Any
) -> None:
    customer = furnished.customers[0]
    url = reverse("admin:billing_customer_give", args=[customer.pk])
    client.force_login(clerk)
    values = {"token": TOKEN, "amount": "250", "kind": "goodwill", "reason": "mine"}
    assert client.post(url, values).status_code == 403
    page = client.get(f"/billing/customer/{customer.pk}/change/")
    assert "Give credits…" not in {tool.label for tool in page.context["page_tools"]}
    client.force_login(house.manager(furnished, furnished.customers[1]))
    assert client.post(url, values).status_code == 404
    assert not CreditGrant.objects.filter(kind="goodwill").exists()
