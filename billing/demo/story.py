"""What happened in the demonstration, told in order of time through the services."""

import heapq
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Final
from zoneinfo import ZoneInfo

from billing import (
    catalog,
    credits,
    invoicing,
    ledger,
    metering,
    payments,
    runs,
    subscriptions,
    topups,
)
from billing.demo import data
from billing.models import (
    CREDITS,
    Contact,
    CreditPack,
    Customer,
    Invoice,
    InvoiceDocument,
    InvoiceRun,
    LegalEntity,
    Meter,
    PaymentMethod,
    Plan,
    PlanVersion,
    Project,
    Subscription,
    TaxRate,
)
from billing.rules import tax
from billing.rules.due_lines import Line
from billing.rules.money import quantize
from billing.rules.periods import add_months

SEED: Final = 20_261_124
ACTOR: Final = "demonstration"
MONTHS: Final = 4  # billed months; the first is short, the present one is open
DRAWN_FIRST: Final = 10  # priority of the newest runs' documents
BATCH: Final = 2000
PLAIN_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz")

Progress = Callable[[str, int, int], None]  # step, done, whole


@dataclass(frozen=True, slots=True)
class _Member:
    """A customer of the story."""

    party: data.Party
    customer: Customer
    subscription: Subscription
    zone: ZoneInfo
    projects: tuple[int, ...]

    def local(self, day: date, hour: int, minute: int = 0) -> datetime:
        """An instant by the customer's own clock."""
        return datetime.combine(day, time(hour, minute), self.zone)


class Story:
    """Tells what happened from the opening to `at`, in order of time."""

    def __init__(self, at: datetime, users: dict[str, int], progress: Progress) -> None:
        # Two days back it is yesterday everywhere on earth: no date lies in anybody's future.
        present = (at - timedelta(days=2)).date().replace(day=1)
        self.at = at
        self.months = [add_months(present, n - MONTHS) for n in range(MONTHS + 1)]
        self.opening = datetime.combine(self.months[0], time(8), UTC)
        self.finance, self.clerk = users["demo-finance"], users["demo-clerk"]
        self.progress = progress
        self.random = random.Random(SEED)  # noqa: S311 - plausible figures, no secrets
        self.members: dict[str, _Member] = {}
        self.uses: list[metering.Use] = []
        self.told = 0  # uses recorded so far
        self._order = count()
        self._due: list[tuple[datetime, int, Callable[[], object], bool]] = []

    def tell(self) -> None:
        """Set the stage, then let everything happen at its time."""
        self._sell()
        self.entities = {
            row["code"]: LegalEntity.objects.create(is_demo=True, **row) for row in data.SELLERS
        }
        for number, party in enumerate(data.PARTIES, start=1):
            self.members[party.code] = self._enter(party)
            self.progress("Customers", number, len(data.PARTIES))
        for version in self.retired:
            catalog.archive(version.pk, actor_id=self.finance)
        self.uses = sorted(
            (use for member in self.members.values() for use in self._uses(member)),
            key=lambda use: use.occurred_at,
        )
        self._plan_ahead()
        days = (self.at - self.opening).days
        while self._due and self._due[0][0] <= self.at:
            instant, _, happen, is_about_credits = heapq.heappop(self._due)
            if is_about_credits:
                self._record_until(instant)
            happen()
            self.progress("Business days", (instant - self.opening).days, days)
        self._record_until(self.at)
        credits.sweep(at=self.at)
        InvoiceDocument.objects.filter(
            invoice__run__period__endswith=self.months[-1],
            customer__legal_entity__is_demo=True,
            state=InvoiceDocument.State.WAITING,
        ).update(priority=DRAWN_FIRST)
        self.progress("Business days", days, days)

    def _at(
        self, instant: datetime, happen: Callable[[], object], *, is_about_credits: bool = True
    ) -> None:
        heapq.heappush(self._due, (instant, next(self._order), happen, is_about_credits))

    # --- the stage --------------------------------------------------------------------------

    def _sell(self) -> None:
        """VAT rates, meters, plans with their versions, and packs."""
        for country, steps in data.STANDARD_RATES.items():
            if TaxRate.objects.filter(country=country, label="standard rate").exists():
                continue
            ends = [start for start, _ in steps[1:]] + [None]
            for (start, rate), end in zip(steps, ends, strict=True):
                TaxRate.objects.create(country=country, rate=Decimal(rate), valid=(start, end))
        self.meters = {
            measure.code: Meter.objects.get_or_create(
                code=measure.code, defaults={"name": measure.name, "unit": measure.unit}
            )[0]
            for measure in data.MEASURES
        }
        self.versions: dict[str, PlanVersion] = {}
        self.retired: list[PlanVersion] = []
        kept = set(Plan.objects.filter(code__startswith="demo-").values_list("code", flat=True))
        for terms in data.PLANS:
            if terms.plan in kept:  # a real customer is on it, so it outlived a removal
                version = PlanVersion.objects.filter(
                    plan__code=terms.plan, state=PlanVersion.State.PUBLISHED
                ).latest("number")
            else:
                version = self._version(terms)
                if terms.state == "archived":
                    self.retired.append(version)
            self.versions[terms.key] = version
        self.packs = {
            (pack.code, currency): CreditPack.objects.get_or_create(
                code=pack.code,
                currency=currency,
                defaults={
                    "name": pack.name,
                    "credits": Decimal(pack.credits),
                    "price": Decimal(price),
                },
            )[0]
            for pack in data.PACKS
            for currency, price in pack.prices.items()
        }

    def _version(self, terms: data.Terms) -> PlanVersion:
        usage = [
            {
                "code": measure.code,
                "label": measure.name,
                "role": "usage",
                "meter": self.meters[measure.code],
                "currency": CREDITS,
                "unit_price": Decimal(measure.credits),
                "unit_label": measure.unit,
                "product": measure.code.removeprefix("demo-"),
            }
            for measure in data.MEASURES
        ]
        version = catalog.draft_version(
            terms.plan,
            name=terms.name,
            summary=terms.summary,
            terms={
                "interval": "month",
                "alignment": "calendar",
                "allowance_credits": Decimal(terms.allowance),
                "overage_policy": terms.overage,
                "usage_rules": terms.summary,
            },
            prices=[*usage, *terms.prices],
        )
        if terms.state != "draft":
            catalog.publish(version.pk, at=self.opening, actor_id=self.finance)
            version.refresh_from_db()
        return version

    def _enter(self, party: data.Party) -> _Member:
        """A customer with its people, projects, way to pay and subscription."""
        zone = ZoneInfo(party.time_zone)
        first = self.months[party.joined]
        day = first + timedelta(
            days=self.random.randint(14, 26) if party.joined == 0 else self.random.randint(0, 6)
        )
        host = _plain(party.name)
        customer = Customer.objects.create(
            legal_entity=self.entities[party.seller],
            code=party.code,
            name=party.name,
            kind=party.kind,
            attention=party.attention,
            street=party.street,
            postal_code=party.postal_code,
            city=party.city,
            region=party.region,
            country=party.country,
            vat_id=party.vat_id,
            vat_id_valid_on=day if party.vat_id and party.country in tax.EU else None,
            email=f"accounts@{host}.example",
            currency=party.currency,
            language=party.language,
            time_zone=party.time_zone,
            payment_terms_days=party.terms,
            purchase_order=party.order,
            buyer_reference=party.reference,
            created_at=datetime.combine(day - timedelta(days=3), time(10), zone),
        )
        Contact.objects.create(
            customer=customer,
            name=party.contact,
            email=f"{_plain(party.contact.split()[0])}@{host}.example",
            duty="accounts payable" if party.kind == "business" else "",
        )
        projects = [
            Project.objects.create(customer=customer, code=f"P-{n:02}", name=name).pk
            for n, name in enumerate(
                self.random.sample(data.PROJECTS, 2 if party.kind == "business" else 0), start=1
            )
        ]
        self._way_to_pay(customer, party)
        subscription = subscriptions.start(
            customer_id=customer.pk,
            plan_version_id=self.versions[party.plan].pk,
            started_on=day,
            actor_id=self.clerk,
            quantity=party.seats,
        )
        return _Member(party, customer, subscription, zone, tuple(projects))

    def _way_to_pay(self, customer: Customer, party: data.Party) -> None:
        kind, masked, until = PaymentMethod.Kind.TRANSFER, "", None
        if party.pays == "card":
            kind, masked = PaymentMethod.Kind.CARD, f"···· {self.random.randint(1000, 9999)}"
            # The manager's prepaid customer has a card that ran out last month.
            has_expired = party.code in data.PEOPLE[-1].customers
            until = self.months[-1] if has_expired else add_months(self.months[-1], 19)
            until -= timedelta(days=1)
        elif party.country == "DE" and party.pays == "prompt":
            kind = PaymentMethod.Kind.DEBIT
            masked = f"DE·· ···· {self.random.randint(10, 99)}"
        PaymentMethod.objects.create(
            customer=customer,
            kind=kind,
            payer_name=party.name,
            reference_masked=masked,
            valid_until=until,
        )

    # --- use --------------------------------------------------------------------------------

    def _uses(self, member: _Member) -> Iterator[metering.Use]:
        """What a customer used from its first day until now, busy on working days."""
        often, day, number = int(member.party.uses), member.subscription.started_on, 0
        while day <= self.at.astimezone(member.zone).date():
            is_working_day = day.weekday() < 5
            times = (
                self.random.randint(0, often) if is_working_day else int(self.random.random() < 0.1)
            )
            minutes = sorted(self.random.sample(range(8 * 60, 19 * 60), times))
            for minute in minutes:
                instant = member.local(day, minute // 60, minute % 60)
                if instant < self.at:
                    number += 1
                    yield self._use(member, instant, number)
            day += timedelta(days=1)

    def _use(self, member: _Member, instant: datetime, number: int) -> metering.Use:
        size, chance = member.party.size, self.random.random()
        code, quantity = "demo-images", self.random.randint(size // 2, 4 * size)
        if chance < 0.16:
            code, quantity = "demo-upscaling", self.random.randint(1, 5 * size)
        elif chance < 0.18 and member.party.plan.startswith("studio"):
            code, quantity = "demo-training", 1
        luck = self.random.random()
        width = self.random.choice((768, 1024, 1536))
        return metering.Use(
            customer_id=member.customer.pk,
            subscription_id=member.subscription.pk,
            meter_id=self.meters[code].pk,
            key=f"demo:{member.party.code}:{number}",
            occurred_at=instant.astimezone(UTC),
            quantity=None if luck > 0.996 else Decimal(quantity),
            stage=metering.Stage.FAILED if luck < 0.03 else metering.Stage.DONE,
            dimensions={"model": self.random.choice(data.MODELS), "width": width},
            project_id=self.random.choice(member.projects) if member.projects else None,
        )

    def _record_until(self, instant: datetime) -> None:
        until = self.told
        while until < len(self.uses) and self.uses[until].occurred_at < instant:
            until += 1
        for start in range(self.told, until, BATCH):
            metering.record_many(
                self.uses[start : min(start + BATCH, until)], actor=ACTOR, request_id=ACTOR
            )
        self.told = until

    # --- what is to happen --------------------------------------------------------------------

    def _plan_ahead(self) -> None:
        for zone in {member.zone for member in self.members.values()}:
            for month in self.months[1:]:
                midnight = datetime.combine(month, time(), zone)
                self._at(midnight, partial(credits.renew_due, at=midnight, actor=ACTOR))
        for member in self.members.values():
            first = member.local(member.subscription.started_on, 0)
            self._at(first, partial(self._welcome, member))
            if member.party.plan == "prepaid":
                self._plan_purchases(member)
        for seller in self.entities.values():
            for month, after in zip(self.months, self.months[1:], strict=False):
                instant = datetime.combine(after, time(9), ZoneInfo(seller.time_zone))
                self._at(instant, partial(self._bill, seller, month, instant))
        self._plan_gifts()
        self._plan_holds()
        self._plan_single_invoices()

    def _welcome(self, member: _Member) -> None:
        """The first allowance, and some credits to begin with."""
        starts = member.local(member.subscription.started_on, 0)
        credits.ensure_allowances(
            [member.subscription.pk], at=starts, actor=ACTOR, request_id=ACTOR
        )
        if member.party.plan != "free":
            self._give(member, "promotional", 100, starts, 60, "Welcome credits", "new customer")

    def _give(
        self,
        member: _Member,
        kind: str,
        amount: int,
        at: datetime,
        days: int,
        label: str,
        reason: str,
        *,
        begins: datetime | None = None,
        meter: str = "",
        priority: int = ledger.PRIORITY,
    ) -> ledger.Granted:
        return credits.give(
            member.customer.pk,
            key=f"demo:{label}",
            kind=kind,
            amount=Decimal(amount),
            at=at,
            effective_at=begins,
            expires_at=(begins or at) + timedelta(days=days),
            label=label,
            meter_ids=[self.meters[meter].pk] if meter else (),
            priority=priority,
            actor=ACTOR,
            reason=reason,
            request_id=ACTOR,
        )

    def _plan_purchases(self, member: _Member) -> None:
        """Packs at the start and in the middle of each month, a little fewer than would do."""
        party = member.party
        a_month = int(party.uses) * party.size * 40
        pack = self.packs["demo-pack-5000" if a_month > 2500 else "demo-pack-500", party.currency]
        packs = max(1, a_month // int(pack.credits))
        first = member.subscription.started_on
        days = [first, *(month + timedelta(days=9) for month in self.months)]
        for day in days:
            if day >= first:
                instant = member.local(day, 9, 30)
                self._at(
                    instant,
                    partial(
                        topups.buy_packs,
                        customer_id=member.customer.pk,
                        pack_id=pack.pk,
                        count=packs,
                        at=instant,
                        method="card",
                        reference=f"card payment {day}",
                        key=f"demo:{day}",
                        actor=ACTOR,
                        request_id=ACTOR,
                    ),
                )

    def _plan_gifts(self) -> None:
        """A grant of each kind and state: expiring soon, to come, scoped, taken back."""
        soon = self.at - timedelta(days=6, hours=3)

        def give(code: str, *what: object, **how: object) -> None:
            self._at(soon, lambda: self._give(self.members[code], *what, **how))  # type: ignore[arg-type]

        give("C-10427", "promotional", 1200, soon, 11, "Autumn campaign", "campaign", priority=200)
        give("C-10588", "goodwill", 120, soon, 12, "Slow queue", "slow on two evenings",
             meter="demo-upscaling")  # fmt: skip
        give("C-10640", "adjustment", 400, soon, 60, "Contract change", "agreed by telephone",
             begins=self.at + timedelta(days=7))  # fmt: skip

        def mistake() -> None:
            member = self.members["C-10744"]
            given = self._give(member, "goodwill", 300, soon, 90, "Outage", "outage of 3 hours")
            ledger.void(
                member.customer.pk,
                key="demo:void",
                grant_id=given.grant_id,
                at=soon + timedelta(minutes=20),
                actor=ACTOR,
                reason="meant for another customer",
                request_id=ACTOR,
            )

        self._at(soon, mistake)

    def _plan_holds(self) -> None:
        """A hold of each state; credits for training that nothing else uses cover them."""
        for code, after, ended in (
            ("C-10093", timedelta(hours=2), None),
            ("K-30114", timedelta(days=2, hours=2), "settle"),
            ("C-10655", timedelta(days=2, hours=4), "release"),
            ("K-30161", timedelta(days=2, hours=6), "lapse"),
        ):
            held_at = self.at - after
            self._at(held_at, partial(self._hold, code, held_at, ended))
        open_use = metering.Use(
            customer_id=self.members["U-50021"].customer.pk,
            subscription_id=self.members["U-50021"].subscription.pk,
            meter_id=self.meters["demo-images"].pk,
            key="demo:U-50021:open",
            occurred_at=self.at - timedelta(minutes=15),
            quantity=Decimal(30),
            stage=metering.Stage.OPEN,
            hold_until=self.at + timedelta(days=2),
        )
        self._at(
            open_use.occurred_at,
            lambda: metering.record_many([open_use], actor=ACTOR, request_id=ACTOR),
        )

    def _hold(self, code: str, at: datetime, ended: str | None) -> None:
        member = self.members[code]
        training = self.meters["demo-training"].pk
        self._give(member, "promotional", 450, at, 45, "Five trainings", "campaign",
                   meter="demo-training")  # fmt: skip
        held = ledger.hold(
            member.customer.pk,
            key="demo:hold",
            amount=Decimal(270),
            at=at,
            expires_at=at + timedelta(days=1),
            meter_id=training,
            project_id=member.projects[0],
            subscription_id=member.subscription.pk,
            overage_policy="invoice",
            actor=ACTOR,
            reason="three style trainings",
            request_id=ACTOR,
        )
        later = at + timedelta(hours=1)
        if ended == "settle":
            ledger.settle(
                member.customer.pk,
                key="demo:settle",
                hold_id=held.hold_id,
                amount=Decimal(180),
                at=later,
                actor=ACTOR,
                reason="two of three were needed",
                request_id=ACTOR,
            )
        elif ended == "release":
            ledger.release(
                member.customer.pk,
                key="demo:release",
                hold_id=held.hold_id,
                at=later,
                actor=ACTOR,
                reason="the order was withdrawn",
                request_id=ACTOR,
            )

    def _plan_single_invoices(self) -> None:
        """Invoices by hand that wait: a draft, one in review, one approved."""
        instant = self.at - timedelta(hours=5)

        def wait() -> None:
            self._single("C-10655", "Colour workshop, half a day", Decimal("480.00"))
            in_review = self._single("K-30122", "Einrichtung Farbprofil", Decimal("260.00"))
            approved = self._single("C-10611", "Consulting, two hours", Decimal("190.00"))
            invoicing.submit_many([in_review])
            invoicing.approve_many([approved], approved_by_id=self.finance)

        self._at(instant, wait)

    def _single(self, code: str, text: str, amount: Decimal) -> int:
        day = (self.at - timedelta(days=2)).date()
        line = Line(
            subscription_id=0,
            price_id=0,
            description=text,
            product="services",
            quantity=Decimal(1),
            unit="piece",
            unit_price=amount,
            base_quantity=1,
            net=amount,
            supply_from=day - timedelta(days=1),
            supply_to=day,
            in_advance=False,
            explanation={"role": "service", "entered": "by hand", "net": str(amount)},
        )
        return invoicing.draft_sale(
            customer_id=self.members[code].customer.pk,
            lines=[line],
            issue_on=day,
            key=f"demo:service:{code}",
            created_by_id=self.clerk,
        )

    # --- invoices and money -------------------------------------------------------------------

    def _bill(self, seller: LegalEntity, month: date, at: datetime) -> None:
        """The run of one month: the clerk prepares it, the finance admin approves and issues."""
        after = add_months(month, 1)
        run = runs.plan(
            legal_entity_id=seller.pk,
            period_from=month,
            period_to=after,
            author_id=self.clerk,
            issue_on=after,
        )
        runs.start(run.pk, at=at, actor_id=self.clerk)
        while runs.advance(run.pk, at=at):
            pass
        run.refresh_from_db()
        is_held_back = seller.code == data.HELD_BACK and after == self.months[-1]
        if run.state != InvoiceRun.State.IN_REVIEW or is_held_back:
            return
        runs.approve(run.pk, by_id=self.finance, at=at, reason="compared with last month")
        runs.issue(run.pk, actor_id=self.finance)
        while runs.advance(run.pk, at=at):
            pass
        codes = {member.customer.pk: member for member in self.members.values()}
        for invoice in Invoice.objects.filter(run=run, state=Invoice.State.ISSUED).order_by("pk"):
            self._expect_payment(codes[invoice.customer_id], invoice)

    def _expect_payment(self, member: _Member, invoice: Invoice) -> None:
        if invoice.issued_on is None or invoice.due_on is None:
            return
        terms = (invoice.due_on - invoice.issued_on).days
        chance = self.random.randint
        amount, days = invoice.payable, chance(3, max(4, terms - 1))
        match member.party.pays:
            case "never":
                return
            case "card":
                days = 1
            case "late":
                days = terms + chance(5, 24)
            case "part":
                amount = quantize(invoice.payable / 2, invoice.currency)
            case "over":
                amount = invoice.payable + Decimal(25)
        instant = datetime.combine(invoice.issued_on + timedelta(days=days), time(11), UTC)
        method = "card" if member.party.pays == "card" else "transfer"
        self._at(
            instant,
            lambda: payments.record(
                customer_id=invoice.customer_id,
                currency=invoice.currency,
                amount=amount,
                received_on=instant.date(),
                method=method,
                reference=invoice.number or "",
                key=f"demo:{invoice.number}",
                recorded_by_id=self.clerk,
                payer=member.party.name,
                allocate={invoice.pk: min(amount, invoice.payable)},
            ),
            is_about_credits=False,
        )


def _plain(text: str) -> str:
    """The letters of a name as a host or mailbox may have them."""
    folded = unicodedata.normalize("NFKD", text.replace("ł", "l").replace("ø", "o"))
    return "".join(letter for letter in folded.lower() if letter in PLAIN_LETTERS)
