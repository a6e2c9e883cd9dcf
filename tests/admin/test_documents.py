"""Documents leave by two doors, each for who may and with a row behind it."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.core.files.storage import storages
from django.test import Client
from django.urls import reverse

from billing.models import DocumentAccess, Invoice, InvoiceDocument
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(furnished: "House") -> Any:
    return house.manager(furnished, *furnished.customers[:2])


@pytest.fixture
def invoice(furnished: "House") -> Invoice:
    return furnished.invoices(furnished.customers[0])[0]


def door(invoice: Invoice, name: str = "download") -> str:
    return reverse(f"document_{name}", args=[invoice.public_id])


def test_a_manager_downloads_an_own_document(
    client: Client, manager: Any, invoice: Invoice
) -> None:
    client.force_login(manager)
    answer = client.get(door(invoice))
    assert answer.status_code == 200
    assert answer.content == house.PDF
    assert answer["Content-Type"] == "application/pdf"
    assert answer["Content-Disposition"] == f'attachment; filename="{invoice.number}.pdf"'
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert "sandbox" in answer["Content-Security-Policy"]
    seen = DocumentAccess.objects.get(document__invoice=invoice)
    assert (seen.user_id, seen.action) == (manager.pk, "download")
    assert seen.request_id == answer["X-Request-ID"]


def test_the_preview_is_for_a_frame_of_the_site_itself(
    client: Client, manager: Any, invoice: Invoice
) -> None:
    client.force_login(manager)
    answer = client.get(door(invoice, "preview"))
    assert answer["Content-Disposition"].startswith("inline;")
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert answer["Content-Security-Policy"] == "frame-ancestors 'self'"
    assert DocumentAccess.objects.get(document__invoice=invoice).action == "preview"


@pytest.mark.parametrize("name", ["download", "preview"])
def test_hidden_missing_and_unfinished_documents_answer_alike(
    client: Client, manager: Any, furnished: "House", name: str
) -> None:
    client.force_login(manager)
    stranger = furnished.invoices(furnished.customers[2])[0]
    run = house.drafted(furnished)
    draft = Invoice.objects.filter(run=run, customer=furnished.customers[0]).get()
    answers = [
        client.get(door(stranger, name)),
        client.get(door(draft, name)),
        client.get(reverse(f"document_{name}", args=[uuid4()])),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({house.without_tokens(answer.content.decode()) for answer in answers}) == 1
    assert not DocumentAccess.objects.exists()


def test_who_may_see_the_invoice_but_not_download_gets_nothing(
    client: Client, furnished: "House", invoice: Invoice
) -> None:
    from accounts import roles
    from accounts.models import Role

    looker = house.person("looker")
    role = roles.define_role(
        Role(code="looker", name="Looker", summary="Looks."),
        permissions=["view_invoices"],
        actor=None,
        at=furnished.run.created_at,  # type: ignore[union-attr]
    )
    roles.assign(
        user=looker,
        role=role,
        customer_id=invoice.customer_id,
        valid_from=furnished.run.created_at,  # type: ignore[union-attr]
        actor=None,
    )
    client.force_login(looker)
    page = client.get(f"/billing/invoice/{invoice.pk}/change/")
    assert page.status_code == 200
    assert str(invoice.public_id) not in page.content.decode()
    assert client.get(door(invoice)).status_code == 404


def test_nobody_downloads_without_logging_in(client: Client, invoice: Invoice) -> None:
    answer = client.get(door(invoice))
    assert answer.status_code == 302
    assert "/login/" in answer["Location"]


def test_only_reading_is_allowed(client: Client, manager: Any, invoice: Invoice) -> None:
    client.force_login(manager)
    assert client.post(door(invoice)).status_code == 405
    head = client.head(door(invoice))
    assert head.status_code == 200
    assert head.content == b""
    assert not DocumentAccess.objects.exists()


def test_what_is_known_already_is_not_sent_again(
    client: Client, manager: Any, invoice: Invoice
) -> None:
    client.force_login(manager)
    etag = client.get(door(invoice))["ETag"]
    again = client.get(door(invoice), headers={"if-none-match": etag})
    assert again.status_code == 304
    assert again["Cache-Control"] == "private, no-store"
    assert DocumentAccess.objects.count() == 1


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=0-999999", 206, slice(0, None)),
        ("bytes=999999-", 416, None),
        ("bytes=9-2", 200, slice(0, None)),
        ("bytes=0-1,4-5", 200, slice(0, None)),
        ("lines=1-2", 200, slice(0, None)),
    ],
)
def test_a_part_may_be_asked_for(
    client: Client, manager: Any, invoice: Invoice, asked: str, status: int, expected: Any
) -> None:
    client.force_login(manager)
    answer = client.get(door(invoice), headers={"range": asked})
    assert answer.status_code == status
    if expected is not None:
        assert answer.content == house.PDF[expected]


def test_a_part_of_another_version_is_the_whole_file(
    client: Client, manager: Any, invoice: Invoice
) -> None:
    client.force_login(manager)
    answer = client.get(door(invoice), headers={"range": "bytes=0-9", "if-range": '"other"'})
    assert answer.status_code == 200
    assert answer.content == house.PDF


def test_a_file_that_was_changed_is_never_sent(
    client: Client, manager: Any, invoice: Invoice
) -> None:
    document = InvoiceDocument.objects.get(invoice=invoice)
    with open(storages["documents"].path(document.storage_name), "ab") as file:
        file.write(b"more")
    client.force_login(manager)
    assert client.get(door(invoice)).status_code == 404


def test_the_name_carries_no_surprises(
    client: Client, manager: Any, furnished: "House", invoice: Invoice
) -> None:
    client.force_login(manager)
    name = client.get(door(invoice))["Content-Disposition"]
    assert "\n" not in name
    assert name.count('"') == 2
    assert furnished.customers[0].name not in name


def test_files_have_no_address_of_their_own(client: Client, manager: Any, invoice: Invoice) -> None:
    client.force_login(manager)
    stored = InvoiceDocument.objects.get(invoice=invoice).storage_name
    for path in (f"/media/{stored}", f"/static/{stored}", f"/documents/{stored}", f"/{stored}"):
        assert client.get(path).status_code == 404


def test_a_document_set_aside_is_made_again_by_a_button(client: Client, furnished: "House") -> None:
    from billing import runs

    run = house.drafted(furnished)
    runs.approve(run.pk, by_id=furnished.checker.pk, at=run.created_at)
    runs.issue(run.pk, actor_id=furnished.checker.pk)
    while runs.advance(run.pk, at=run.created_at):
        pass
    document = InvoiceDocument.objects.filter(invoice__run=run).earliest("pk")
    InvoiceDocument.objects.filter(pk=document.pk).update(state="parked", reason="no letters")
    client.force_login(furnished.checker)
    page = client.get(f"/billing/invoicedocument/{document.pk}/change/")
    assert [tool.label for tool in page.context["page_tools"]] == ["Make it again"]
    url = reverse("admin:billing_invoicedocument_step", args=[document.pk, "retry"])
    assert b"no letters" in client.get(url).content
    client.post(url)
    document.refresh_from_db()
    assert (document.state, document.reason) == ("waiting", "")
