"""A manager of two customers meets nothing of the third, by whatever road.

The third customer carries canaries in every text a person can type, and every answer the manager
gets is searched for them: headers, addresses, choices, filters, labels and JSON included.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from django.contrib import admin
from django.db import models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import access, roles
from accounts.admin.scoped import ScopedAdmin
from accounts.models import RoleAssignment, User
from billing.models import Contact, Customer, Invoice, PaymentMethod, Project
from tests.accounts.people import role
from tests.admin import house as furnished

CANARY = "CANARY-Zq7"
CRAWL_MAX = 400
MISSING = 987_654_321


@dataclass
class Scene:
    """Two customers of the manager, one hidden, and what must never be seen."""

    house: furnished.House
    manager: User
    hidden: Customer
    secrets: list[str] = field(default_factory=list)

    @property
    def own(self) -> Customer:
        return self.house.customers[0]


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: Any) -> Scene:
    with django_db_blocker.unblock():
        house = furnished.build(customers=3, name="Leak House")
        hidden = house.customers[2]
        Customer.objects.filter(pk=hidden.pk).update(
            name=f"{CANARY} Ltd", email="canary-zq7@example.org", vat_id="CANARYZQ7", city=CANARY
        )
        Contact.objects.filter(customer=hidden).update(name=f"{CANARY} person")
        Project.objects.filter(customer=hidden).update(name=f"{CANARY} project")
        PaymentMethod.objects.filter(customer=hidden).update(payer_name=f"{CANARY} payer")
        numbers = Invoice.objects.filter(customer=hidden, number__isnull=False)
        manager = furnished.manager(house, *house.customers[:2])
        # A manager who may write, too: the roads of a POST are longer than those of a GET.
        writer = roles.define_role(
            role_for_writers(),
            permissions=["change_customer", "change_terms", "manage_people"],
            actor=None,
            at=timezone.now(),
        )
        for customer in house.customers[:2]:
            roles.assign(
                user=manager,
                role=writer,
                customer_id=customer.pk,
                valid_from=timezone.now(),
                actor=None,
            )
        secrets = [CANARY, "canary-zq7", "CANARYZQ7", *numbers.values_list("number", flat=True)]
        return Scene(house, manager, Customer.objects.get(pk=hidden.pk), secrets)


def role_for_writers() -> Any:
    from accounts.models import Role

    return Role.objects.filter(code="writer").first() or Role(
        code="writer", name="Writer", summary="Edits what it sees."
    )


@pytest.fixture
def client_of_manager(scene: Scene, db: None) -> Client:
    client = Client()
    client.force_login(scene.manager)
    return client


def pages() -> list[tuple[str, ScopedAdmin]]:
    site = admin.site
    return [(model._meta.label_lower, page) for model, page in site._registry.items()]


OWNED = [label for label, page in pages() if page.owner is not None]
OF_THE_HOUSE = [label for label, page in pages() if page.owner is None]


def page_of(label: str) -> ScopedAdmin:
    return next(page for name, page in pages() if name == label)


def url(page: ScopedAdmin, name: str, *args: Any) -> str:
    return reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_{name}", args=args)


def rows_of(page: ScopedAdmin, customer: Customer) -> models.QuerySet[Any]:
    path = page.owner if page.owner == "pk" else f"{page.owner}_id"
    return page.model._default_manager.filter(**{path: customer.pk}).order_by("pk")


def clean(scene: Scene, response: Any, asked: str = "") -> None:
    """Nothing secret in an answer; what the reader typed themselves is no secret."""
    body = b"".join(response) if response.streaming else response.content
    text = unescape(body.decode(errors="replace"))
    text += "\n".join(f"{name}: {value}" for name, value in response.items())
    text = text.replace(asked, "") if asked else text
    for secret in scene.secrets:
        assert secret not in text, f"{secret} in the answer to {response.request['PATH_INFO']}"


def test_the_scene_has_something_to_hide(scene: Scene, client: Client, db: None):
    client.force_login(scene.house.author)
    seen = client.get(url(page_of("billing.customer"), "changelist")).content.decode()
    assert CANARY in seen
    assert len(scene.secrets) > 3


@pytest.mark.parametrize("label", OWNED)
def test_hidden_and_missing_rows_answer_alike(scene: Scene, client_of_manager: Client, label: str):
    page = page_of(label)
    hidden = rows_of(page, scene.hidden).first()
    for name in ("change", "history", "delete"):
        missing = client_of_manager.get(url(page, name, MISSING))
        assert missing.status_code == 404
        if hidden is not None:
            for method in (client_of_manager.get, client_of_manager.post):
                answer = method(url(page, name, hidden.pk))
                assert answer.status_code == 404, (name, hidden)
                clean(scene, answer)


@pytest.mark.parametrize("label", OWNED)
def test_a_list_shows_own_rows_only(scene: Scene, client_of_manager: Client, label: str):
    page = page_of(label)
    answer = client_of_manager.get(url(page, "changelist"))
    assert answer.status_code in {200, 403}
    clean(scene, answer)
    if answer.status_code == 200:
        own = {customer.pk for customer in scene.house.customers[:2]}
        shown = answer.context_data["cl"].queryset
        assert {access.customer_id_of(row, page.owner) for row in shown} <= own


@pytest.mark.parametrize("label", OF_THE_HOUSE)
def test_pages_of_the_house_are_shut(scene: Scene, client_of_manager: Client, label: str):
    page = page_of(label)
    assert client_of_manager.get(url(page, "changelist")).status_code == 403
    row = page.model._default_manager.first()
    for pk in (MISSING, row.pk if row else MISSING):
        assert client_of_manager.get(url(page, "change", pk)).status_code == 404


def test_nothing_secret_is_reachable_by_following_links(scene: Scene, client_of_manager: Client):
    start = reverse("admin:index")
    queue, known = deque([start]), {start}
    visited = 0
    while queue and visited < CRAWL_MAX:
        at = queue.popleft()
        answer = client_of_manager.get(at)
        visited += 1
        assert answer.status_code < 500, at
        clean(scene, answer)
        if "html" not in answer.headers.get("Content-Type", "") or answer.streaming:
            continue
        for link in re.findall(r'(?:href|src|data-url|action)="([^"]+)"', answer.content.decode()):
            there = urldefrag(urljoin(at, unescape(link)))[0]
            parts = urlsplit(there)
            if parts.netloc or "logout" in there or parts.path.startswith("/static"):
                continue
            if there not in known:
                known.add(there)
                queue.append(there)
    assert visited > 100


@pytest.mark.parametrize("label", [*OWNED, *OF_THE_HOUSE])
def test_autocompletion_offers_own_rows_only(scene: Scene, client_of_manager: Client, label: str):
    page = page_of(label)
    for relation in page.model._meta.fields:
        if not relation.is_relation:
            continue
        query = {
            "app_label": page.opts.app_label,
            "model_name": page.opts.model_name,
            "field_name": relation.name,
        }
        for term in ("", CANARY):
            answer = client_of_manager.get(reverse("admin:autocomplete"), query | {"term": term})
            assert answer.status_code in {200, 403, 404}, relation
            clean(scene, answer)
            if term and answer.status_code == 200:
                assert answer.json()["results"] == []


@pytest.mark.parametrize("label", OWNED)
def test_a_forged_post_puts_nothing_into_a_hidden_customer(
    scene: Scene, client_of_manager: Client, label: str
):
    page = page_of(label)
    before = rows_of(page, scene.hidden).count()
    total = page.model._default_manager.count()
    form = {
        field.name: scene.hidden.pk if field.name == page.owner else "1"
        for field in page.model._meta.fields
        if field.editable
    }
    answer = client_of_manager.post(url(page, "add"), form)
    assert answer.status_code in {200, 403}
    clean(scene, answer)
    assert rows_of(page, scene.hidden).count() == before
    assert page.model._default_manager.count() == total


def test_an_own_row_cannot_be_moved_to_a_hidden_customer(scene: Scene, client_of_manager: Client):
    page = page_of("billing.contact")
    contact = rows_of(page, scene.own).get()
    form = {"customer": scene.hidden.pk, "name": "Moved", "email": contact.email, "duty": ""}
    answer = client_of_manager.post(url(page, "change", contact.pk), form)
    assert answer.status_code == 200
    assert answer.context_data["errors"]
    clean(scene, answer)
    contact.refresh_from_db()
    assert contact.customer_id == scene.own.pk
    own = client_of_manager.post(
        url(page, "change", contact.pk), form | {"customer": scene.own.pk, "name": "Renamed"}
    )
    assert own.status_code == 302
    contact.refresh_from_db()
    assert contact.name == "Renamed"


@pytest.mark.parametrize("label", ["billing.contact", "billing.project", "billing.paymentmethod"])
def test_a_prefilled_form_tells_nothing(scene: Scene, client_of_manager: Client, label: str):
    add = url(page_of(label), "add")
    hidden = client_of_manager.get(add, {"customer": scene.hidden.pk})
    clean(scene, hidden)
    strange = client_of_manager.get(add, {"customer": "x", "no_such": "1", "customer__id": "1"})
    assert strange.status_code == 200
    own = client_of_manager.get(add, {"customer": scene.own.pk})
    assert str(scene.own) in unescape(own.content.decode())


@pytest.mark.parametrize("label", OWNED)
def test_an_address_guesses_no_hidden_column(scene: Scene, client_of_manager: Client, label: str):
    page = page_of(label)
    changelist = url(page, "changelist")
    if client_of_manager.get(changelist).status_code == 403:
        return
    relations = [field.name for field in page.model._meta.get_fields() if field.is_relation]
    lookups = [f"{name}__{end}" for name in relations for end in ("vat_id__startswith", "name")]
    lookups += ["customer__legal_entity__name", "customer__contacts__name", "vat_id__startswith"]
    lookups += ["legal_entity__customers__vat_id", "pk__regex", "reference__icontains"]
    for lookup in lookups:
        answer = client_of_manager.get(changelist, {lookup: "CANARY"})
        assert answer.status_code in {302, 400}, lookup


@pytest.mark.parametrize("query", ["CANARY", "canary-zq7@example.org", "CANARYZQ7", "Ltd"])
def test_search_finds_own_rows_only(scene: Scene, client_of_manager: Client, query: str):
    answer = client_of_manager.get(reverse("admin:search"), {"q": query})
    assert answer.status_code == 200
    assert scene.hidden.name not in unescape(answer.content.decode())
    for label in OWNED:
        page = page_of(label)
        listed = client_of_manager.get(url(page, "changelist"), {"q": query})
        assert listed.status_code in {200, 403}
        if listed.status_code == 200:
            for row in listed.context_data["cl"].result_list:
                assert access.customer_id_of(row, page.owner) != scene.hidden.pk


def test_an_address_with_a_nul_is_refused(scene: Scene, client_of_manager: Client):
    changelist = url(page_of("billing.customer"), "changelist")
    for query in ({"q": "\x00"}, {"currency": "\x00"}, {"o": "\x00"}):
        assert client_of_manager.get(changelist, query).status_code == 400


def test_view_on_site_is_gone(scene: Scene, client_of_manager: Client):
    from django.contrib.contenttypes.models import ContentType

    kind = ContentType.objects.get_for_model(Customer)
    assert client_of_manager.get(f"/r/{kind.pk}/{scene.hidden.pk}/").status_code == 404


def test_documents_of_others_are_missing(scene: Scene, client_of_manager: Client):
    hidden = Invoice.objects.filter(customer=scene.hidden, number__isnull=False).first()
    own = Invoice.objects.filter(customer=scene.own, number__isnull=False).first()
    for name in ("document_download", "document_preview"):
        assert client_of_manager.get(reverse(name, args=[hidden.public_id])).status_code == 404
        assert client_of_manager.get(reverse(name, args=[own.public_id])).status_code == 200


def test_a_role_that_ends_shuts_every_page_on_the_next_request(scene: Scene, db: None):
    with transaction.atomic():
        person = furnished.manager(scene.house, scene.own)
        client = Client()
        client.force_login(person)
        page = url(page_of("billing.customer"), "change", scene.own.pk)
        assert client.get(page).status_code == 200
        for given in RoleAssignment.objects.filter(user=person):
            roles.end(given.pk, at=timezone.now(), actor=None)
        answer = client.get(page)
        assert answer.status_code == 302
        assert "login" in answer.headers["Location"]


def test_an_inactive_person_is_out_on_the_next_request(scene: Scene, db: None):
    person = furnished.manager(scene.house, scene.own)
    client = Client()
    client.force_login(person)
    assert client.get(reverse("admin:index")).status_code == 200
    User.objects.filter(pk=person.pk).update(is_active=False)
    assert client.get(reverse("admin:index")).status_code == 302


def test_an_auditor_sees_all_and_changes_nothing(scene: Scene, db: None):
    person = furnished.person("auditor-leaks")
    roles.sync_roles(at=timezone.now())
    roles.assign(
        user=person,
        role=role("auditor"),
        customer_id=None,
        valid_from=timezone.now(),
        actor=None,
    )
    client = Client()
    client.force_login(person)
    assert CANARY in client.get(url(page_of("billing.customer"), "changelist")).content.decode()
    for label, page in pages():
        assert client.get(url(page, "changelist")).status_code == 200, label
        assert client.get(url(page, "add")).status_code == 403, label
        row = page.model._default_manager.first()
        if row is not None:
            assert client.post(url(page, "change", row.pk), {}).status_code == 403, label
            assert client.get(url(page, "delete", row.pk)).status_code == 403, label
