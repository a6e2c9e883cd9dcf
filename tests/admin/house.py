"""A small furnished house for tests of the pages: two sellers' worth of life, made by services.

Everything goes through the same doors as on a real site, so the pages meet rows in every state.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import count
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts import roles
from accounts.models import Role, User
from billing import catalog, ledger, metering, payments, runs, subscriptions, topups
from billing.models import (
    Contact,
    CreditPack,
    Customer,
    Heartbeat,
    Invoice,
    InvoiceDocument,
    InvoiceRun,
    LegalEntity,
    Meter,
    PaymentMethod,
    PlanVersion,
    Project,
    TaxRate,
)

_serial = count(1)
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n" + b"% filler\n" * 200 + b"%%EOF\n"


@dataclass
class House:
    """What a test may reach for."""

    entity: LegalEntity
    version: PlanVersion
    meter: Meter
    customers: list[Customer] = field(default_factory=list)
    author: Any = None
    checker: Any = None
    run: InvoiceRun | None = None
    in_review: InvoiceRun | None = None
    manager: Any = None

    def invoices(self, customer: Customer) -> list[Invoice]:
        return list(Invoice.objects.filter(customer=customer).order_by("pk"))


def person(username: str, **fields: Any) -> User:
    return User.objects.create_user(username=username, password="correct horse battery", **fields)


def build(
    *, customers: int = 3, name: str = "Atelier Nord", with_run: bool = True, uses: int = 4
) -> House:
    """A seller, a plan with an allowance and invoiced overage, and customers that use it."""
    n = next(_serial)
    code = f"T{n}{timezone.now():%f}"[:12]
    entity = LegalEntity.objects.create(
        code=code, name=name, legal_name=f"{name} GmbH", street="Speicherstraße 12",
        postal_code="20457", city="Hamburg", country="DE", vat_id="DE999999999",
        iban="DE02120300000000202051", bic="BYLADEM1001", bank_name="Musterbank",
        currency="EUR", email="rechnung@example.org",
    )  # fmt: skip
    TaxRate.objects.get_or_create(
        country="DE", label="standard rate", rate=Decimal(19), valid=(date(2007, 1, 1), None)
    )
    meter = Meter.objects.create(code=f"images-{code.lower()}", name="Images", unit="image")
    version = catalog.draft_version(
        f"studio-{code.lower()}",
        name="Studio",
        summary="A monthly allowance, use beyond it invoiced.",
        terms={"allowance_credits": Decimal(1000), "overage_policy": "invoice"},
        prices=[
            {"code": "fee", "label": "Studio plan", "role": "fee", "currency": "EUR",
             "unit_price": Decimal("49.00"), "billed": "advance", "unit_label": "month",
             "product": "studio"},
            {"code": "image", "label": "Image", "role": "usage", "meter": meter,
             "currency": "credits", "unit_price": Decimal(80), "unit_label": "image",
             "product": "studio"},
            {"code": "over", "label": "Use beyond the credits", "role": "overage",
             "currency": "EUR", "unit_price": Decimal("0.01"), "unit_label": "credit",
             "product": "studio"},
        ],
    )  # fmt: skip
    house = House(entity=entity, version=version, meter=meter)
    house.author = person(f"author-{code}", name="Jonas Weber", is_staff=True, is_superuser=True)
    house.checker = person(
        f"checker-{code}", name="Marta Lindqvist", is_staff=True, is_superuser=True
    )
    catalog.publish(version.pk, at=timezone.now(), actor_id=house.author.pk)
    CreditPack.objects.create(
        code=f"p{code.lower()}", name="Pack of 50,000", credits=50000, price=900, currency="EUR"
    )
    for position in range(1, customers + 1):
        house.customers.append(customer(house, position, uses=uses))
    if with_run:
        house.run = billed(house)
    Heartbeat.objects.update_or_create(name="clock", defaults={"seen_at": timezone.now()})
    return house


NAMES = (
    "Brouwer & Zonen B.V.", "Alpenglanz AG", "Lumière Studio SAS", "Fjällräv Interiör AB",
    "Hartmann Verlag GmbH", "Nordhavn Design ApS", "Kowalczyk Media sp. z o.o.",
    "Novák Architekti s.r.o.", "Ó Briain Films Ltd", "Tuuli Labs Oy", "Casa Pineda S.L.",
)  # fmt: skip


def customer(house: House, position: int, *, uses: int = 4) -> Customer:
    """A customer with people, a plan, credits, use, a hold and payment details."""
    name = f"{NAMES[position % len(NAMES)]}"
    row = Customer.objects.create(
        legal_entity=house.entity, code=f"C{position:05}", name=name, street="Wijnhaven 44",
        postal_code="3011 WS", city="Hamburg", country="DE", currency="EUR",
        email=f"post{position}@{house.entity.code.lower()}.example",
    )  # fmt: skip
    Contact.objects.create(customer=row, name="Sanne de Wit", email=f"s{position}@example.org")
    project = Project.objects.create(customer=row, code="P1", name="Spring catalogue")
    PaymentMethod.objects.create(customer=row, payer_name=name, reference_masked="···· 4242")
    start = _month(-2)
    subscription = subscriptions.start(
        customer_id=row.pk,
        plan_version_id=house.version.pk,
        started_on=start,
        actor_id=house.author.pk,
    )
    at = datetime.combine(start, datetime.min.time(), tzinfo=UTC)
    common = {"actor": "test", "reason": "given by hand", "request_id": "test"}
    ledger.grant(
        row.pk, key="allowance", kind="allowance", amount=Decimal(1000), at=at,
        label="Allowance", expires_at=timezone.now() + timedelta(days=9),
        subscription_id=subscription.pk, **common,
    )  # fmt: skip
    bonus = Decimal(200) if position % 2 else Decimal(2000)
    ledger.grant(
        row.pk, key="bonus", kind="promotional", amount=bonus, at=at, label="Summer bonus",
        **common,
    )  # fmt: skip

    def use(key: str, day: int, stage: metering.Stage = metering.Stage.DONE) -> metering.Use:
        return metering.Use(
            customer_id=row.pk,
            subscription_id=subscription.pk,
            meter_id=house.meter.pk,
            key=key,
            occurred_at=at + timedelta(days=day, hours=position % 20),
            quantity=Decimal(4),
            project_id=project.pk,
            stage=stage,
        )

    wanted = [use(f"use-{day}", day) for day in range(1, uses + 1)]
    if position % 2 == 0:
        wanted.append(use("open", uses + 1, metering.Stage.OPEN))
    metering.record_many(wanted, actor="test", request_id="test")
    return row


def billed(house: House, *, back: int = 2, pay: bool = True, drawn: bool = True) -> InvoiceRun:
    """Draft, approve and issue the month `back` months ago; the first customer pays in full.

    The invoices are dated a month ago, so what is not paid is overdue.
    """
    run = drafted(house, back=back, issue_on=timezone.localdate() - timedelta(days=31))
    now = timezone.now()
    runs.approve(run.pk, by_id=house.checker.pk, at=now, reason="checked")
    runs.issue(run.pk, actor_id=house.checker.pk)
    _work(run)
    for invoice in Invoice.objects.filter(run=run) if drawn else ():
        ready(invoice)
    runs.advance(run.pk, at=now)
    if pay and house.customers:
        first = Invoice.objects.filter(run=run, customer=house.customers[0]).first()
        if first is not None:
            payments.record(
                customer_id=first.customer_id, currency=first.currency, amount=first.payable,
                received_on=timezone.localdate(), method="transfer",
                reference=f"Invoice {first.number}", key=f"pay-{first.pk}",
                recorded_by_id=house.author.pk,
            )  # fmt: skip
    run.refresh_from_db()
    return run


def drafted(house: House, *, back: int = 1, issue_on: date | None = None) -> InvoiceRun:
    """A run in review for the month `back` months ago."""
    run = runs.plan(
        legal_entity_id=house.entity.pk,
        period_from=_month(-back),
        period_to=_month(1 - back),
        author_id=house.author.pk,
        issue_on=issue_on,
    )
    runs.start(run.pk, at=timezone.now(), actor_id=house.author.pk)
    _work(run)
    run.refresh_from_db()
    return run


def enliven(house: House) -> InvoiceRun:
    """More of a month: a pack sold, a manager, a customer nobody can bill, a run in review."""
    first = house.customers[0]
    topups.buy_packs(
        customer_id=first.pk,
        pack_id=CreditPack.objects.get(code=f"p{house.entity.code.lower()}").pk,
        count=1,
        at=timezone.now(),
        method="card",
        reference="order 77",
        key=f"pack-{first.pk}",
        actor="test",
        actor_id=house.author.pk,
    )
    for invoice in Invoice.objects.filter(customer=first, documents__state="waiting"):
        ready(invoice)
    manager(house, *house.customers[:2])
    stray = customer(house, len(house.customers) + 1, uses=1)
    Customer.objects.filter(pk=stray.pk).update(currency="USD")
    return drafted(house)


def manager(house: House, *customers: Customer) -> User:
    """A person who looks after these customers and nobody else's."""
    roles.sync_roles(at=timezone.now())
    user = person(f"manager-{house.entity.code}-{next(_serial)}", name="Sanne de Wit")
    give(user, "customer-manager", *customers)
    return user


def give(user: User, role: str, *customers: Customer) -> None:
    """A built-in role, on these customers or, without any, on the house."""
    roles.sync_roles(at=timezone.now())
    for customer_id in [row.pk for row in customers] or [None]:
        roles.assign(
            user=user,
            role=Role.objects.get(code=role),
            customer_id=customer_id,
            valid_from=timezone.now() - timedelta(days=1),
            actor=None,
        )


def ready(invoice: Invoice, content: bytes = PDF) -> InvoiceDocument:
    """Put a file where the renderer would have put it."""
    if not InvoiceDocument.objects.filter(invoice=invoice, state="waiting").exists():
        return InvoiceDocument.objects.get(invoice=invoice)
    storage = storages["documents"]
    name = storage.save(f"test/{invoice.public_id}.pdf", ContentFile(content))
    InvoiceDocument.objects.filter(invoice=invoice, state="waiting").update(
        state="ready",
        storage_name=name,
        sha256=sha256(content).hexdigest(),
        size=len(content),
        rendered_at=timezone.now(),
    )
    return InvoiceDocument.objects.get(invoice=invoice)


def _work(run: InvoiceRun) -> None:
    while runs.advance(run.pk, at=timezone.now()):
        pass


def _month(offset: int) -> date:
    today = timezone.localdate()
    number = today.year * 12 + today.month - 1 + offset
    return date(number // 12, number % 12 + 1, 1)


def without_tokens(page: str) -> str:
    """A page without the tokens that differ every time."""
    return re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", page)
