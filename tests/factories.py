"""Small makers of sellers, customers, plans and use; every call makes rows of its own.

Everything is written through the services where there is one, so a test meets what the site makes.
Codes carry a random part, because tests that commit leave their rows behind.
"""

import itertools
import secrets
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Min

from accounts.models import User
from billing import catalog, metering, runs, subscriptions
from billing.models import (
    CREDITS,
    CreditPack,
    Customer,
    Invoice,
    InvoiceRun,
    JournalEntry,
    LegalEntity,
    Meter,
    NumberSeries,
    PlanVersion,
    Posting,
    RunItem,
    Subscription,
    TaxRate,
)

NOW = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
NOVEMBER = (date(2026, 11, 1), date(2026, 12, 1))
_serial = itertools.count(1)


def unique(prefix: str = "x") -> str:
    """A short code nobody has used before."""
    return f"{prefix}{next(_serial)}{secrets.token_hex(3)}"


def person(name: str = "Robin Clerk") -> User:
    """Somebody who works here."""
    return User.objects.create(username=unique("p"), name=name)


def seller(**fields: Any) -> LegalEntity:
    """A seller whose invoices are complete by law; in Ireland unless told otherwise."""
    values: dict[str, Any] = {
        "code": unique("S")[:12].upper(),
        "name": "Tidewater",
        "legal_name": "Tidewater Imaging Limited",
        "street": "1 Quay Street",
        "postal_code": "D01 AA00",
        "city": "Dublin",
        "country": "IE",
        "vat_id": "IE1234567FA",
        "iban": "IE29AIBK93115212345678",
        "currency": "EUR",
        "time_zone": "Europe/Dublin",
    }
    rate(values["country"] if "country" not in fields else fields["country"])
    return LegalEntity.objects.create(**values | fields)


def rate(country: str, percent: str = "23", since: date = date(2020, 1, 1)) -> None:
    """The country's standard rate, unless it has one."""
    TaxRate.objects.get_or_create(
        country=country,
        label="standard rate",
        defaults={"rate": Decimal(percent), "valid": (since, None)},
    )


def customer(entity: LegalEntity, **fields: Any) -> Customer:
    """A business at home of the seller, with a whole address."""
    values: dict[str, Any] = {
        "code": unique("C"),
        "name": "Harbour Prints",
        "street": "7 Mill Lane",
        "postal_code": "T12 BB00",
        "city": "Cork",
        "country": entity.country,
        "currency": entity.currency,
        "time_zone": "UTC",
    }
    return Customer.objects.create(legal_entity=entity, **values | fields)


def meter() -> Meter:
    """The one meter of the tests."""
    found, _ = Meter.objects.get_or_create(
        code="test-images", defaults={"name": "Images", "unit": "units"}
    )
    return found


def fee(amount: str = "12.00", **fields: Any) -> dict[str, Any]:
    """A monthly fee billed in advance."""
    return {
        "code": "fee",
        "label": "Studio plan",
        "role": "fee",
        "currency": "EUR",
        "unit_price": Decimal(amount),
        "billed": "advance",
        "unit_label": "month",
        "product": "plan-fees",
    } | fields


def overage(amount: str = "50.00", base: int = 1000, **fields: Any) -> dict[str, Any]:
    """Credits above the allowance, in arrears."""
    return {
        "code": "overage",
        "label": "Credits above the allowance",
        "role": "overage",
        "currency": "EUR",
        "unit_price": Decimal(amount),
        "base_quantity": base,
        "unit_label": "credits",
        "product": "overage",
    } | fields


def usage_price(amount: str = "1", **fields: Any) -> dict[str, Any]:
    """What one unit of the meter costs in credits."""
    return {
        "code": "image",
        "label": "Image",
        "role": "usage",
        "meter": meter(),
        "currency": CREDITS,
        "unit_price": Decimal(amount),
        "unit_label": "units",
        "product": "images",
    } | fields


def version(*prices: dict[str, Any], publish: bool = True, **terms: Any) -> PlanVersion:
    """A plan version with these prices; the studio plan without any."""
    made = catalog.draft_version(
        unique("plan-"),
        name="Studio",
        summary="",
        terms={"overage_policy": _policy(prices)} | terms,
        prices=prices or (fee(), overage(), usage_price()),
    )
    if publish:
        catalog.publish(made.pk, at=NOW, actor_id=None)
        made.refresh_from_db()
    return made


def _policy(prices: Sequence[dict[str, Any]]) -> str:
    """Use beyond the credits is invoiced where that has a price."""
    return "invoice" if not prices or any(p["role"] == "overage" for p in prices) else "block"


def subscribe(who: Customer, plan: PlanVersion, since: date, **fields: Any) -> Subscription:
    """The customer on the plan."""
    ended_on = fields.pop("ended_on", None)
    made = subscriptions.start(
        customer_id=who.pk, plan_version_id=plan.pk, started_on=since, actor_id=None, **fields
    )
    if ended_on is not None:
        made.ended_on = ended_on
        made.save()
    return made


def use(
    subscription: Subscription, quantity: str | None, at: datetime, **fields: Any
) -> metering.Use:
    """One fact of use of a subscription."""
    return metering.Use(
        **{
            "customer_id": subscription.customer_id,
            "subscription_id": subscription.pk,
            "meter_id": meter().pk,
            "key": unique("use-"),
            "occurred_at": at,
            "quantity": None if quantity is None else Decimal(quantity),
        }
        | fields
    )


def record(*uses: metering.Use) -> list[metering.Recorded]:
    """Record uses as the product would."""
    return metering.record_many(uses, actor="test", request_id="test")


def pack(credits: str = "250", price: str = "10.00", **fields: Any) -> CreditPack:
    """Credits for sale."""
    values = {
        "code": unique("pack-"),
        "name": "Pack",
        "credits": Decimal(credits),
        "price": Decimal(price),
        "currency": "EUR",
    }
    return CreditPack.objects.create(**values | fields)


def plan_run(entity: LegalEntity, author: User, **fields: Any) -> InvoiceRun:
    """The run of November 2026, dated on its first day after."""
    return runs.plan(
        **{
            "legal_entity_id": entity.pk,
            "period_from": NOVEMBER[0],
            "period_to": NOVEMBER[1],
            "author_id": author.pk,
            "issue_on": NOVEMBER[1],
        }
        | fields
    )


def work(run_id: int, *, at: datetime = NOW, chunk: int = 1000) -> None:
    """Advance a run until it needs a person, or is done."""
    while runs.advance(run_id, at=at, chunk=chunk):
        pass


def bill(entity: LegalEntity, author: User, approver: User, **fields: Any) -> InvoiceRun:
    """A whole run, planned by one person and approved by another."""
    run = plan_run(entity, author, **fields)
    runs.start(run.pk, at=NOW)
    work(run.pk)
    run.refresh_from_db()
    if run.state == InvoiceRun.State.IN_REVIEW:
        runs.approve(run.pk, by_id=approver.pk, at=NOW)
        runs.issue(run.pk, actor_id=approver.pk)
        work(run.pk)
        run.refresh_from_db()
    return run


def items(run: InvoiceRun) -> dict[str, int]:
    """How many customers of a run are in each state."""
    return dict(
        RunItem.objects.filter(run=run).values_list("state").annotate(n=Count("pk")).order_by()
    )


def customers_with_fee(
    entity: LegalEntity, count: int, plan: PlanVersion, since: date = NOVEMBER[0]
) -> list[Customer]:
    """Many customers who owe the fee of the plan."""
    made = Customer.objects.bulk_create(
        Customer(
            legal_entity=entity,
            code=unique("C"),
            name=f"Customer {n}",
            street="1 Road",
            city="Cork",
            country=entity.country,
            currency="EUR",
        )
        for n in range(count)
    )
    Subscription.objects.bulk_create(
        Subscription(customer=who, plan_version=plan, anchor_on=since, started_on=since)
        for who in made
    )
    return made


def assert_numbers_are_gapless(entity: LegalEntity) -> None:
    """Every series of a seller runs 1..n without a gap, its dates never back."""
    for series in NumberSeries.objects.filter(legal_entity=entity):
        found = list(
            Invoice.objects.filter(series=series)
            .order_by("sequence")
            .values_list("sequence", "issued_on", "number")
        )
        assert [row[0] for row in found] == list(range(1, series.next_number))
        days = [row[1] for row in found]
        assert days == sorted(days)
        assert len({row[2] for row in found}) == len(found)


def assert_books_balance(entity: LegalEntity) -> None:
    """Every journal entry of a seller adds up to zero, and issue ties to its invoices."""
    entries = JournalEntry.objects.filter(legal_entity=entity)
    sums: dict[int, Decimal] = {}
    for entry_id, amount in Posting.objects.filter(entry__in=entries).values_list(
        "entry_id", "amount"
    ):
        sums[entry_id] = sums.get(entry_id, Decimal(0)) + amount
    assert set(sums.values()) <= {Decimal(0)}
    assert len(sums) == entries.count()
    issued = Invoice.objects.filter(legal_entity=entity, state__in=("issued", "void"))
    receivable = Posting.objects.filter(
        entry__in=entries.filter(recipe="invoice_issued"), account="receivable"
    )
    assert sum(p.amount for p in receivable) == sum(i.payable for i in issued)


def span(*, of: Sequence[Invoice]) -> tuple[date, date]:
    """First and last day these invoices supply."""
    found = Invoice.objects.filter(pk__in=[i.pk for i in of]).aggregate(
        low=Min("supply_from"), high=Max("supply_to")
    )
    return found["low"], found["high"]


def instant(text: str) -> datetime:
    """An instant from ISO text; UTC unless it says otherwise."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def later(minutes: int) -> datetime:
    """Some minutes after NOW."""
    return NOW + timedelta(minutes=minutes)
