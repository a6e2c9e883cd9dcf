"""Who opens which page, and what a manager of two customers never sees."""

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import admin
from django.db import models as fields
from django.test import Client
from django.urls import NoReverseMatch, reverse

from billing.models import (
    AuditEvent,
    Charge,
    Contact,
    CreditGrant,
    Customer,
    Hold,
    Invoice,
    InvoiceDocument,
    InvoiceRun,
    JournalEntry,
    LedgerEntry,
    LegalEntity,
    Payment,
    PlanVersion,
    Project,
    RunItem,
    Subscription,
    UsageEvent,
    UsageImport,
)
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = [pytest.mark.django_db, pytest.mark.matrix]

CANARY = "CANARY-7719"
# Lists each role opens; the others answer 403.
OF_A_CUSTOMER = {
    Customer, Contact, Project, Subscription, CreditGrant, Hold, LedgerEntry, Charge, UsageEvent,
    Invoice, InvoiceDocument, Payment,
}  # fmt: skip
OF_THE_HOUSE = {InvoiceRun, RunItem, JournalEntry, LegalEntity, PlanVersion}
OPENS = {
    "finance-admin": OF_A_CUSTOMER | OF_THE_HOUSE | {AuditEvent, UsageImport},
    "clerk": OF_A_CUSTOMER | OF_THE_HOUSE | {UsageImport},
    "auditor": OF_A_CUSTOMER | OF_THE_HOUSE | {AuditEvent, UsageImport},
    "customer-manager": OF_A_CUSTOMER,
}
ALL = OF_A_CUSTOMER | OF_THE_HOUSE | {AuditEvent, UsageImport}


def address(model: Any, what: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{what}", args=args)


@pytest.fixture
def people(furnished: "House") -> dict[str, Any]:
    """One person of each role; the manager looks after the first two customers."""
    house.enliven(furnished)
    found = {"customer-manager": house.manager(furnished, *furnished.customers[:2])}
    for role in ("finance-admin", "clerk", "auditor"):
        found[role] = house.person(f"{role}-{furnished.entity.code}", name=role)
        house.give(found[role], role)
    return found


@pytest.mark.parametrize("role", OPENS)
@pytest.mark.parametrize("model", sorted(ALL, key=lambda model: model.__name__))
def test_lists_open_for_whom_they_are(
    client: Client, people: dict[str, Any], role: str, model: Any
) -> None:
    client.force_login(people[role])
    expected = 200 if model in OPENS[role] else 403
    assert client.get(address(model, "changelist")).status_code == expected


@pytest.mark.parametrize("role", ["clerk", "auditor", "customer-manager"])
def test_who_may_not_change_a_customer_gets_no_form(
    client: Client, people: dict[str, Any], furnished: "House", role: str
) -> None:
    client.force_login(people[role])
    url = address(Customer, "change", furnished.customers[0].pk)
    expected = 200 if role == "clerk" else 403
    assert client.post(url, {"name": "x"}).status_code == expected  # 200: the form's own errors
    assert client.get(address(Customer, "add")).status_code == expected


def test_hidden_and_missing_rows_answer_alike(
    client: Client, people: dict[str, Any], furnished: "House"
) -> None:
    client.force_login(people["customer-manager"])
    stranger = furnished.customers[2]
    checked = 0
    for model, page in admin.site._registry.items():
        row = _row_of(model, stranger)
        if row is None or not page.has_view_permission(_request(people["customer-manager"])):
            continue
        missing = 10**12
        for what in ("change", "history", "delete"):
            hidden = client.get(address(model, what, row.pk))
            absent = client.get(address(model, what, missing))
            assert hidden.status_code == absent.status_code == 404, (model, what)
            assert _without_address(hidden, row.pk) == _without_address(absent, missing)
            posted = client.post(address(model, what, row.pk), {"post": "yes"})
            assert posted.status_code == 404, (model, what)
            checked += 1
    assert checked >= 30


def test_a_strangers_timeline_and_documents_are_not_found(
    client: Client, people: dict[str, Any], furnished: "House"
) -> None:
    client.force_login(people["customer-manager"])
    stranger = furnished.customers[2]
    invoice = furnished.invoices(stranger)[0]
    for url in (
        reverse("admin:billing_customer_timeline", args=[stranger.pk]),
        reverse("document_download", args=[invoice.public_id]),
        reverse("document_preview", args=[invoice.public_id]),
    ):
        assert client.get(url).status_code == 404, url


def test_a_manager_sees_nothing_of_a_stranger_anywhere(
    client: Client, people: dict[str, Any], furnished: "House"
) -> None:
    stranger = furnished.customers[2]
    Customer.objects.filter(pk=stranger.pk).update(
        name=CANARY, city=CANARY, code=CANARY, vat_id=CANARY, email=f"{CANARY}@example.org"
    )
    Contact.objects.filter(customer=stranger).update(name=CANARY)
    Project.objects.filter(customer=stranger).update(name=CANARY)
    client.force_login(people["customer-manager"])
    urls = ["/", f"/search/?q={CANARY}", "/help/"]
    for model in OF_A_CUSTOMER:
        listing = address(model, "changelist")
        urls += [listing, f"{listing}?q={CANARY}"]
        try:
            urls.append(address(model, "add"))
        except NoReverseMatch:
            continue
        for own in model._default_manager.filter(**_owned(model, furnished.customers[:2]))[:3]:
            urls.append(address(model, "change", own.pk))
    urls += [
        f"/autocomplete/?app_label=billing&model_name=contact&field_name=customer&term={CANARY}"
    ]
    for url in urls:
        body = client.get(url).content.decode()
        asked = f"q={CANARY}" in url or f"term={CANARY}" in url
        found = body.replace(f'value="{CANARY}"', "").replace(f"<b>{CANARY}</b>", "")
        found = found.replace(f"“{CANARY}”", "").replace(f"q={CANARY}", "") if asked else found
        assert CANARY not in found, url


def test_a_manager_cannot_put_a_row_into_a_strangers_account(
    client: Client, people: dict[str, Any], furnished: "House"
) -> None:
    client.force_login(people["customer-manager"])
    values = {"customer": furnished.customers[2].pk, "code": "X", "name": "X", "is_active": "on"}
    assert client.post(address(Project, "add"), values).status_code == 403
    assert not Project.objects.filter(code="X").exists()


def test_the_menu_shows_only_what_opens(client: Client, people: dict[str, Any]) -> None:
    client.force_login(people["customer-manager"])
    page = client.get("/")
    labels = {item.label for group in page.context["menu"] for item in group.items}
    assert {"Customers", "Invoices", "Grants"} <= labels
    assert not labels & {"Invoice runs", "Journal", "Audit trail", "Legal entities", "VAT rates"}
    for group in page.context["menu"]:
        for item in group.items:
            assert client.get(item.url).status_code == 200, item.label


def test_the_dashboard_adds_up_only_the_managers_customers(
    client: Client, people: dict[str, Any], furnished: "House"
) -> None:
    from billing.models import InvoiceBalance
    from billing.templatetags.billing_format import amount

    own = [row.pk for row in furnished.customers[:2]]
    due = InvoiceBalance.objects.filter(customer_id__in=own).aggregate(s=fields.Sum("due"))["s"]
    client.force_login(people["customer-manager"])
    board = client.get("/").context["board"]
    assert board.kpis[0].title == "Outstanding"
    assert board.kpis[0].value == amount(due, "EUR")
    assert board.runs == []


@pytest.mark.parametrize("path", ["/", "/billing/invoice/", "/search/?q=x", "/help/"])
def test_nobody_enters_without_logging_in(client: Client, path: str, db: None) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


def test_somebody_without_a_role_stays_outside(client: Client, furnished: "House") -> None:
    client.force_login(house.person(f"nobody-{furnished.entity.code}"))
    assert client.get("/").status_code == 302


def _row_of(model: Any, customer: Customer) -> Any:
    owned = _owned(model, [customer])
    return model._default_manager.filter(**owned).first() if owned else None


def _owned(model: Any, customers: list[Customer]) -> dict[str, Any]:
    if model is Customer:
        return {"pk__in": [row.pk for row in customers]}
    names = {field.name for field in model._meta.fields}
    return {"customer__in": customers} if "customer" in names else {}


def _request(user: Any) -> Any:
    from django.test import RequestFactory

    request = RequestFactory().get("/")
    request.user = user
    return request


def _without_address(answer: Any, pk: int) -> str:
    return house.without_tokens(answer.content.decode()).replace(str(pk), "")
