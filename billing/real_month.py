"""A real month, from a file of requests to issued invoices: import, run, import, run, reconcile.

The file is the public trace of image-generation requests. It names customers by group number and
nothing else, so three rules stand in for what a contract would say, and are written here:

- Plan: by the group's number, modulo three. 0: *Free* (an allowance that blocks), 1: *Studio*
  (an allowance and invoiced overage), 2: *Prepaid* (packs, bought automatically by card).
- A customer subscribes on the day of its first use (UTC); periods are calendar months.
- The trace has no addresses. Customers are entered as businesses of the seller's own country, care
  of the seller, so that their invoices are complete and taxed at the domestic rate.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

from django.db import transaction

from billing import catalog, imports, runs
from billing.models import (
    CREDITS,
    CreditPack,
    InvoiceRun,
    LegalEntity,
    Meter,
    PlanVersion,
    TaxRate,
)
from billing.rules.money import ZERO

ENTITY: Final = "GEN"
MONTHS: Final = ((date(2024, 11, 1), date(2024, 12, 1)), (date(2024, 12, 1), date(2025, 1, 1)))
AS_OF: Final = datetime(2025, 1, 1, tzinfo=UTC)
_PLANS: Final = ("genai-free", "genai-studio", "genai-prepaid")
Progress = Callable[[str, int, int], None]  # step, done, whole


@dataclass(frozen=True, slots=True)
class Setup:
    """The seller of the real month with its plans, by the remainder of the group's number."""

    entity: LegalEntity
    versions: tuple[PlanVersion, PlanVersion, PlanVersion]
    pack: CreditPack

    def rules(self) -> imports.Rules:
        """How the import enters new customers and tops them up."""
        return imports.Rules(onboard=self._onboard, packs={self.versions[2].pk: self.pack})

    def _onboard(self, code: str) -> imports.NewCustomer:
        entity = self.entity
        digits = re.sub(r"\D", "", code)
        return imports.NewCustomer(
            particulars={
                "name": f"Trace customer {code}",
                "kind": "business",
                "attention": f"c/o {entity.legal_name}",
                "street": entity.street,
                "postal_code": entity.postal_code,
                "city": entity.city,
                "country": entity.country,
                "currency": entity.currency,
                "language": "en",
                "time_zone": "UTC",
            },
            plan_version_id=self.versions[int(digits or 0) % 3].pk,
        )


@transaction.atomic
def set_up(at: datetime) -> Setup:
    """The seller, its VAT rate, three published plans and one pack; made once."""
    entity, _ = LegalEntity.objects.get_or_create(
        code=ENTITY,
        defaults={
            "name": "Genai Imaging",
            "legal_name": "Genai Imaging Limited",
            "street": "2 Trace Street",
            "postal_code": "D02 XY00",
            "city": "Dublin",
            "country": "IE",
            "vat_id": "IE1234567FA",
            "registration": "Registered in Ireland, no. 612345",
            "email": "billing@genai.example",
            "iban": "IE29AIBK93115212345678",
            "bic": "AIBKIE2D",
            "bank_name": "Example Bank",
            "currency": "EUR",
            "language": "en",
            "time_zone": "UTC",
        },
    )
    if not TaxRate.objects.filter(country="IE", valid__contains=MONTHS[0][0]).exists():
        TaxRate.objects.create(country="IE", rate=Decimal(23), valid=(date(2021, 3, 1), None))
    meter, _ = Meter.objects.get_or_create(
        code="image-generation", defaults={"name": "Image generation", "unit": "units"}
    )
    pack, _ = CreditPack.objects.get_or_create(
        code="pack-250",
        currency="EUR",
        defaults={"name": "Pack of 250 credits", "credits": Decimal(250), "price": Decimal(10)},
    )
    versions = tuple(_version(number, meter, at) for number in range(3))
    return Setup(entity, versions, pack)  # type: ignore[arg-type]


def _version(number: int, meter: Meter, at: datetime) -> PlanVersion:
    standing = PlanVersion.objects.filter(
        plan__code=_PLANS[number], state=PlanVersion.State.PUBLISHED
    ).first()
    if standing is not None:
        return standing
    names = ("Free", "Studio", "Prepaid")
    rules = (
        "60 credits each month. Use stops when they are used up.",
        "300 credits each month for EUR 12.00. Further credits are EUR 50.00 per 1,000.",
        "No monthly fee. Packs of 250 credits at EUR 10.00 are bought when credits run short.",
    )
    prices = [
        {
            "code": "image",
            "label": "Image generation",
            "role": "usage",
            "meter": meter,
            "currency": CREDITS,
            "unit_price": Decimal(1),
            "unit_label": "units",
            "product": "image-generation",
        }
    ]
    if number == 1:
        prices += [
            {
                "code": "fee",
                "label": "Studio plan",
                "role": "fee",
                "currency": "EUR",
                "unit_price": Decimal("12.00"),
                "billed": "advance",
                "unit_label": "month",
                "product": "plan-fees",
            },
            {
                "code": "overage",
                "label": "Image credits above the allowance",
                "role": "overage",
                "currency": "EUR",
                "unit_price": Decimal("50.00"),
                "base_quantity": 1000,
                "unit_label": "credits",
                "product": "overage",
            },
        ]
    version = catalog.draft_version(
        _PLANS[number],
        name=names[number],
        summary=rules[number],
        terms={
            "interval": "month",
            "alignment": "calendar",
            "allowance_credits": (Decimal(60), Decimal(300), ZERO)[number],
            "overage_policy": ("block", "invoice", "block")[number],
            "usage_rules": rules[number],
        },
        prices=prices,
    )
    catalog.publish(version.pk, at=at, actor_id=None)
    version.refresh_from_db()
    return version


@dataclass(frozen=True, slots=True)
class Month:
    """One finished run with what the import booked for it."""

    run: InvoiceRun
    report: imports.Report
    import_seconds: Decimal
    run_seconds: Decimal


def bill(
    path: Path,
    *,
    setup: Setup,
    author_id: int,
    approver_id: int,
    stopwatch: Callable[[], Decimal],
    clock: Callable[[], datetime],
    customers: frozenset[str] | None = None,
    rejected_path: Path | None = None,
    progress: Progress = lambda step, done, whole: None,
) -> list[Month]:
    """Import and bill both months in order, as the clock would have. Again adds nothing.

    Runs are planned by the author and approved by another person. Invoices carry the first day
    after their month.
    """
    months = []
    for first, after in MONTHS:
        label = f"{first:%B %Y}"
        began = stopwatch()
        report = imports.import_usage(
            path,
            mapping="genai",
            legal_entity_id=setup.entity.pk,
            as_of=AS_OF,
            actor="real-month",
            rules=setup.rules(),
            since=datetime.combine(first, datetime.min.time(), UTC),
            until=datetime.combine(after, datetime.min.time(), UTC),
            customers=customers,
            rejected_path=rejected_path,
            progress=partial(_rows_read, progress, label),
        )
        imported = stopwatch()
        run = runs.plan(
            legal_entity_id=setup.entity.pk,
            period_from=first,
            period_to=after,
            author_id=author_id,
            issue_on=after,
        )
        with _reported(run.pk, label, progress) as advance:
            runs.start(run.pk, at=clock(), actor_id=author_id)
            while advance(clock()):
                pass
            run.refresh_from_db()
            if run.state == InvoiceRun.State.IN_REVIEW:
                runs.approve(run.pk, by_id=approver_id, at=clock(), reason="real month")
                runs.issue(run.pk, actor_id=approver_id)
            while advance(clock()):
                pass
        run.refresh_from_db()
        months.append(Month(run, report, imported - began, stopwatch() - imported))
    return months


def _rows_read(progress: Progress, label: str, rows: int) -> None:
    progress(f"import {label}", rows, 0)


@contextmanager
def _reported(run_id: int, label: str, progress: Progress) -> Iterator[Callable[[datetime], bool]]:
    def advance(at: datetime) -> bool:
        more = runs.advance(run_id, at=at)
        state = runs.progress(run_id)
        progress(f"run {label}", state.customers - state.waiting + state.issued, state.customers)
        return more

    yield advance
