"""Every page opens, looks after itself and says things plainly."""

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.admin import ScopedAdmin
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = pytest.mark.django_db


def models() -> list[Any]:
    return [model for model in admin.site._registry if model._meta.app_label == "billing"]


def address(model: Any, what: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{what}", args=args)


def test_every_page_is_scoped() -> None:
    assert all(isinstance(page, ScopedAdmin) for page in admin.site._registry.values())


def test_every_list_and_every_row_opens(client: Client, furnished: "House") -> None:
    house.enliven(furnished)
    client.force_login(furnished.author)
    for model in models():
        assert client.get(address(model, "changelist")).status_code == 200, model
        row = model._default_manager.first()
        if row is not None:
            assert client.get(address(model, "change", row.pk)).status_code == 200, model


@pytest.mark.parametrize("path", ["/", "/search/", "/search/?q=Brouwer", "/help/", "/help/runs/"])
def test_the_sites_own_pages_open(client: Client, furnished: "House", path: str) -> None:
    client.force_login(furnished.author)
    assert client.get(path).status_code == 200


def test_every_guide_exists(client: Client, furnished: "House") -> None:
    from config.site import GUIDES

    client.force_login(furnished.author)
    for slug, *_ in GUIDES:
        assert client.get(reverse("admin:help_guide", args=[slug])).status_code == 200
    assert client.get("/help/nothing/").status_code == 404


def test_every_tab_of_every_list_opens(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    for model, page in admin.site._registry.items():
        for view in getattr(page, "views", ()):
            url = f"{address(model, 'changelist')}?view={view.name}"
            assert client.get(url).status_code == 200, url


def test_no_page_carries_script_or_style_of_its_own(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    urls = ["/", *(address(model, "changelist") for model in models())]
    urls += [
        address(model, "change", row.pk) for model in models() if (row := model.objects.first())
    ]
    for url in urls:
        text = client.get(url).content.decode()
        assert "<style" not in text, url
        assert not re.search(r"\sstyle=", text), url
        assert not re.search(r"\son[a-z]+=", text), url
        assert not re.findall(r"<script(?![^>]*\bsrc=)", text), url


def test_the_policy_is_on_every_answer(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    for url in ("/", "/nothing/at/all/", "/billing/invoice/"):
        policy = client.get(url)["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_what_people_type_is_shown_as_text(client: Client, furnished: "House") -> None:
    hostile = '"><script>alert(1)</script>'
    customer = furnished.customers[0]
    type(customer).objects.filter(pk=customer.pk).update(name=hostile, city=hostile)
    client.force_login(furnished.author)
    urls = [
        "/",
        "/search/?q=script",
        address(type(customer), "changelist"),
        address(type(customer), "change", customer.pk),
        reverse("admin:billing_customer_timeline", args=[customer.pk]),
        "/billing/invoice/",
        f"/billing/invoicerun/{furnished.run.pk}/change/",  # type: ignore[union-attr]
    ]
    for url in urls:
        assert "<script>alert" not in client.get(url).content.decode(), url


def test_rows_money_hangs_on_are_never_deleted(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    for model in models():
        row = model._default_manager.first()
        if row is None:
            continue
        assert client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        assert model._default_manager.filter(pk=row.pk).exists()


def test_an_issued_invoice_cannot_be_edited_by_form(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    invoice = furnished.invoices(furnished.customers[0])[0]
    url = address(type(invoice), "change", invoice.pk)
    assert client.post(url, {"payable": "1.00"}).status_code == 403


def test_a_customer_is_added_and_changed(client: Client, furnished: "House") -> None:
    from billing.models import Customer

    client.force_login(furnished.author)
    values = {
        "legal_entity": furnished.entity.pk, "code": "NEW-1", "name": "Neu & Co",
        "kind": "business",
        "country": "DE", "currency": "EUR", "language": "en", "time_zone": "UTC",
        "credit_limit": "0", "is_active": "on", "street": "Weg 1", "city": "Bonn",
    }  # fmt: skip
    assert client.post("/billing/customer/add/", values).status_code == 302
    customer = Customer.objects.get(code="NEW-1")
    url = address(Customer, "change", customer.pk)
    assert client.post(url, values | {"name": "Neu GmbH"}).status_code == 302
    customer.refresh_from_db()
    assert customer.name == "Neu GmbH"


def test_a_published_version_shows_terms_and_takes_no_edit(
    client: Client, furnished: "House"
) -> None:
    client.force_login(furnished.author)
    url = f"/billing/planversion/{furnished.version.pk}/change/"
    text = client.get(url).content.decode()
    assert "Use beyond the credits" in text
    assert client.post(url, {"allowance_credits": "5"}).status_code == 403


def test_demonstration_data_is_named_on_every_page(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    assert b"demonstration data" not in client.get("/help/").content
    type(furnished.entity).objects.create(
        code="DEMO", name="Demo", legal_name="Demo", country="IE", currency="EUR", is_demo=True
    )
    assert b"demonstration data" in client.get("/help/").content


def test_a_quiet_worker_is_named(client: Client, furnished: "House") -> None:
    from datetime import timedelta

    from django.utils import timezone

    from billing.models import Heartbeat

    client.force_login(furnished.author)
    long_ago = timezone.now() - timedelta(minutes=20)
    Heartbeat.objects.update_or_create(name="worker", defaults={"seen_at": long_ago})
    assert b"No worker has answered for 20 minutes" in client.get("/help/").content
