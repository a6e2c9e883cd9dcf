"""Drafting and issuing: what is billed, once, with the right VAT, number and books."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from billing import invoicing
from billing.errors import IllegalTransition, MissingData
from billing.models import (
    BilledPeriod,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceLine,
    JournalEntry,
    NumberSeries,
    PlanVersion,
    Posting,
    TaxRate,
)
from billing.rules.totals import line_net
from tests import factories as make
from tests.factories import NOVEMBER, NOW

pytestmark = pytest.mark.django_db


def draft(entity, *customers, through=NOVEMBER[1], issue_on=None, prefix="test", **fields):
    return invoicing.draft_many(
        [who.pk for who in customers],
        legal_entity_id=entity.pk,
        through=through,
        issue_on=issue_on or through,
        key_prefix=prefix,
        **fields,
    )


def issue(*ids, approver=None, at=NOW, **fields):
    invoicing.approve_many(ids, approved_by_id=approver.pk if approver else None)
    return invoicing.issue_many(ids, at=at, **fields)


def billed(entity, plan=None, *, since=NOVEMBER[0], used=(), **customer_fields):
    """A subscribed customer with some use, and its draft."""
    who = make.customer(entity, **customer_fields)
    subscription = make.subscribe(who, plan or make.version(), since)
    make.record(*(make.use(subscription, q, make.instant(at)) for q, at in used))
    (outcome,) = draft(entity, who)
    return who, Invoice.objects.get(pk=outcome.invoice_id)


# --- what a draft holds ----------------------------------------------------------------------


def test_a_draft_bills_the_fees_begun_and_the_use_of_periods_that_are_over():
    entity = make.seller()
    _, invoice = billed(entity, used=[("1500", "2026-11-10"), ("999", "2026-12-01")])
    assert [(x.description, x.supply_from, x.net) for x in invoice.lines.all()] == [
        ("Studio plan", date(2026, 11, 1), Decimal("12.00")),
        ("Credits above the allowance", date(2026, 11, 1), Decimal("75.00")),
        ("Studio plan", date(2026, 12, 1), Decimal("12.00")),
    ]
    assert (invoice.net, invoice.tax, invoice.gross) == (
        Decimal("99.00"),
        Decimal("22.77"),
        Decimal("121.77"),
    )
    assert invoice.number is None


@pytest.mark.parametrize("used", ["0.000001", "1", "333.333333", "1234567.891", "10.01"])
@pytest.mark.parametrize("since", [date(2026, 11, 1), date(2026, 11, 13), date(2026, 11, 30)])
def test_every_line_is_round_quantity_times_price_over_base(used, since):
    entity = make.seller()
    _, invoice = billed(entity, since=since, used=[(used, "2026-11-30T12:00")])
    for line in invoice.lines.all():
        assert line.net == line_net(
            line.quantity, line.unit_price, "EUR", base_quantity=line.base_quantity
        )
    assert invoice.net == sum(line.net for line in invoice.lines.all())
    assert invoice.tax == sum(group.tax for group in invoice.taxes.all())


def test_a_long_unit_label_still_fits_a_part_of_a_period():
    entity = make.seller()
    plan = make.version(make.fee(unit_label="seat of the studio"))
    _, invoice = billed(entity, plan, since=date(2026, 11, 16))
    line = invoice.lines.first()
    assert line.net == Decimal("6.00")
    assert line.net == line_net(
        line.quantity, line.unit_price, "EUR", base_quantity=line.base_quantity
    )


def test_days_of_use_are_those_of_the_customers_zone():
    entity = make.seller()
    west = {"time_zone": "America/Los_Angeles"}
    # 1 December, 07:59 UTC is still 30 November in Los Angeles; 08:00 UTC is not.
    used = [("1000", "2026-12-01T07:59:59"), ("4000", "2026-12-01T08:00")]
    _, invoice = billed(entity, used=used, **west)
    line = invoice.lines.get(product="overage")
    assert (line.quantity, line.net) == (Decimal(1000), Decimal("50.00"))
    assert (line.supply_from, line.supply_to) == NOVEMBER


def test_use_before_midnight_in_the_east_belongs_to_the_next_period():
    entity = make.seller()
    who = make.customer(entity, time_zone="Pacific/Auckland")
    subscription = make.subscribe(who, make.version(), NOVEMBER[0])
    make.record(make.use(subscription, "1000", make.instant("2026-11-30T12:00")))
    draft(entity, who)
    assert not InvoiceLine.objects.filter(customer=who, product="overage").exists()
    draft(entity, who, through=date(2027, 1, 1), prefix="next")
    line = InvoiceLine.objects.get(customer=who, product="overage")
    assert (line.supply_from, line.quantity) == (date(2026, 12, 1), Decimal(1000))


def test_a_subscription_that_ends_is_billed_to_its_last_day():
    entity = make.seller()
    who = make.customer(entity)
    plan = make.version(make.fee("30.00", billed="arrears"))
    make.subscribe(who, plan, date(2026, 11, 1), ended_on=date(2026, 11, 11))
    (outcome,) = draft(entity, who)
    line = InvoiceLine.objects.get(invoice_id=outcome.invoice_id)
    assert (line.net, line.supply_to) == (Decimal("10.00"), date(2026, 11, 11))
    assert draft(entity, who, through=date(2027, 1, 1), prefix="next")[0].state == "nothing"


def test_two_subscriptions_of_a_customer_share_an_invoice():
    entity = make.seller()
    who = make.customer(entity)
    make.subscribe(who, make.version(make.fee("10.00")), NOVEMBER[0])
    make.subscribe(who, make.version(make.fee("20.00")), NOVEMBER[0])
    (outcome,) = draft(entity, who, through=NOVEMBER[0])
    assert Invoice.objects.get(pk=outcome.invoice_id).net == Decimal("30.00")


def test_graduated_fees_and_use_carry_their_tiers():
    entity = make.seller()
    tiers = [{"up_to": "1000", "unit": "0.05", "flat": "0"}, {"up_to": None, "unit": "0.01"}]
    plan = make.version(
        make.overage(model="graduated", unit_price=None, tiers=tiers, base_quantity=1),
        make.usage_price(),
    )
    _, invoice = billed(entity, plan, used=[("3000", "2026-11-03")])
    line = invoice.lines.get()
    assert line.net == Decimal("70.00")
    assert (line.quantity, line.unit_price) == (1, Decimal("70.00"))
    assert [step["quantity"] for step in line.explanation["tiers"]] == ["1000", "2000"]


# --- nothing, too much, and what is missing ---------------------------------------------------


def test_nothing_owed_makes_no_invoice():
    entity = make.seller()
    who = make.customer(entity)
    make.subscribe(who, make.version(make.overage(), make.usage_price()), NOVEMBER[0])
    assert [o.state for o in draft(entity, who)] == ["nothing"]
    assert not Invoice.objects.filter(customer=who).exists()


def test_a_free_fee_makes_no_invoice():
    entity = make.seller()
    who = make.customer(entity)
    make.subscribe(who, make.version(make.fee("0.00")), NOVEMBER[0])
    assert [o.state for o in draft(entity, who)] == ["nothing"]


def test_use_worth_less_than_half_a_cent_makes_no_invoice():
    entity = make.seller()
    who = make.customer(entity)
    subscription = make.subscribe(
        who, make.version(make.overage(), make.usage_price()), NOVEMBER[0]
    )
    make.record(make.use(subscription, "0.09", make.instant("2026-11-05")))
    assert [o.state for o in draft(entity, who)] == ["nothing"]


def test_years_without_use_are_not_too_many_periods():
    """A free plan, or a plan without overage, owes nothing for its old periods."""
    entity = make.seller()
    quiet, free = make.customer(entity), make.customer(entity)
    subscription = make.subscribe(
        quiet, make.version(make.overage(), make.usage_price()), date(2024, 1, 1)
    )
    make.record(make.use(subscription, "1000", make.instant("2026-11-05")))
    make.subscribe(free, make.version(make.fee("0.00")), date(2024, 1, 1))
    outcomes = draft(entity, quiet, free)
    assert [o.state for o in outcomes] == ["drafted", "nothing"]


def test_thirteen_missed_periods_are_looked_at_by_a_person():
    entity = make.seller()
    who, fine = make.customer(entity), make.customer(entity)
    plan = make.version(make.fee())
    make.subscribe(who, plan, date(2025, 10, 1))
    make.subscribe(fine, plan, date(2026, 1, 1))
    parked, twelve = draft(entity, who, fine)
    assert (parked.state, parked.invoice_id) == ("parked", None)
    assert "14 periods" in parked.reason or "15 periods" in parked.reason
    assert twelve.state == "drafted"
    assert Invoice.objects.get(pk=twelve.invoice_id).lines.count() == 12


def test_a_plan_without_a_price_in_the_customers_currency_parks_only_that_customer():
    entity = make.seller()
    swiss, fine = make.customer(entity, currency="CHF"), make.customer(entity)
    plan = make.version()
    make.subscribe(swiss, plan, NOVEMBER[0])
    make.subscribe(fine, plan, NOVEMBER[0])
    parked, drafted = draft(entity, swiss, fine)
    assert (parked.state, drafted.state) == ("parked", "drafted")
    assert "CHF" in parked.reason


def test_use_beyond_the_credits_without_a_price_in_money_is_not_forgotten():
    entity = make.seller()
    who = make.customer(entity)
    # Publishing refuses such a plan; one from before that rule is caught here.
    plan = make.version(make.fee(), make.usage_price(), publish=False, overage_policy="invoice")
    PlanVersion.objects.filter(pk=plan.pk).update(state="published", published_at=NOW)
    subscription = make.subscribe(who, plan, NOVEMBER[0])
    make.record(make.use(subscription, "100", make.instant("2026-11-05")))
    (outcome,) = draft(entity, who)
    assert outcome.state == "parked"
    assert "credits" in outcome.reason


def test_a_missing_vat_rate_parks_with_the_place_that_mends_it():
    entity = make.seller(country="LU", vat_id="LU12345678")
    TaxRate.objects.filter(country="LU").delete()
    who = make.customer(entity)
    make.subscribe(who, make.version(make.fee()), NOVEMBER[0])
    (outcome,) = draft(entity, who)
    assert outcome.state == "parked"
    assert "LU" in outcome.reason
    assert "VAT rates" in outcome.reason


# --- VAT -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "category", "tax"),
    [
        ({}, "S", "2.76"),
        ({"country": "DE"}, "S", "2.76"),  # no confirmed VAT id: the seller's rate
        ({"country": "DE", "vat_id": "DE136695976"}, "S", "2.76"),
        (
            {"country": "DE", "vat_id": "DE136695976", "vat_id_valid_on": date(2026, 1, 1)},
            "AE",
            "0.00",
        ),
        ({"country": "US"}, "O", "0.00"),
    ],
)
def test_the_category_follows_the_parties(fields, category, tax):
    entity = make.seller()
    plan = make.version(make.fee(billed="arrears"))
    _, invoice = billed(entity, plan, **fields)
    group = invoice.taxes.get()
    assert (group.category, group.tax) == (category, Decimal(tax))
    assert bool(group.reason) == (category != "S")


def test_a_changed_rate_taxes_each_line_at_its_own_last_day():
    entity = make.seller(country="MT", vat_id="MT12345678")
    TaxRate.objects.filter(country="MT").delete()
    TaxRate.objects.create(country="MT", rate=18, valid=(date(2020, 1, 1), date(2026, 12, 1)))
    TaxRate.objects.create(country="MT", rate=20, valid=(date(2026, 12, 1), None))
    _, invoice = billed(entity, used=[("2000", "2026-11-10")])
    assert sorted((x.supply_from, x.tax_rate, x.net) for x in invoice.lines.all()) == [
        (date(2026, 11, 1), Decimal(18), Decimal("12.00")),
        (date(2026, 11, 1), Decimal(18), Decimal("100.00")),
        (date(2026, 12, 1), Decimal(20), Decimal("12.00")),
    ]
    assert {(g.rate, g.taxable, g.tax) for g in invoice.taxes.all()} == {
        (Decimal(18), Decimal("112.00"), Decimal("20.16")),
        (Decimal(20), Decimal("12.00"), Decimal("2.40")),
    }


def test_arrears_are_taxed_on_the_last_day_of_service_and_advances_on_issue():
    entity = make.seller()
    _, invoice = billed(entity, used=[("2000", "2026-11-10")])
    points = {(x.product, x.supply_from): x.tax_point_on for x in invoice.lines.all()}
    assert points[("overage", date(2026, 11, 1))] == date(2026, 11, 30)
    assert points[("plan-fees", date(2026, 12, 1))] == date(2026, 12, 1)


def test_reverse_charge_has_its_tax_point_at_the_end_of_the_service():
    entity = make.seller()
    fields = {"country": "DE", "vat_id": "DE136695976", "vat_id_valid_on": date(2026, 1, 1)}
    _, invoice = billed(entity, make.version(make.fee()), since=date(2026, 12, 1), **fields)
    assert invoice.lines.get().tax_point_on == date(2026, 12, 31)


# --- once ------------------------------------------------------------------------------------


def test_asking_again_gives_back_the_standing_draft():
    entity = make.seller()
    who, invoice = billed(entity)
    again = draft(entity, who)
    assert [(o.state, o.invoice_id) for o in again] == [("drafted", invoice.pk)]
    assert Invoice.objects.filter(customer=who).count() == 1


def test_another_run_over_the_same_days_finds_nothing():
    entity = make.seller()
    who, _ = billed(entity, used=[("2000", "2026-11-10")])
    assert [o.state for o in draft(entity, who, prefix="other")] == ["nothing"]
    assert Invoice.objects.filter(customer=who).count() == 1


def test_the_database_refuses_a_period_billed_twice():
    entity = make.seller()
    _, invoice = billed(entity)
    period = BilledPeriod.objects.filter(invoice=invoice).first()
    with pytest.raises(DatabaseError, match="period_billed_once"), transaction.atomic():
        BilledPeriod.objects.create(
            customer_id=period.customer_id,
            subscription_id=period.subscription_id,
            price_id=period.price_id,
            invoice=invoice,
            period=(date(2026, 11, 15), date(2026, 11, 16)),
        )


def test_a_catch_up_bills_every_missed_period_once_in_order():
    entity = make.seller()
    who, invoice = billed(entity, make.version(make.fee()), since=date(2026, 9, 15))
    assert [(x.supply_from, x.supply_to, x.net) for x in invoice.lines.all()] == [
        (date(2026, 9, 15), date(2026, 10, 1), Decimal("6.40")),
        (date(2026, 10, 1), date(2026, 11, 1), Decimal("12.00")),
        (date(2026, 11, 1), date(2026, 12, 1), Decimal("12.00")),
        (date(2026, 12, 1), date(2027, 1, 1), Decimal("12.00")),
    ]
    assert draft(entity, who, prefix="other")[0].state == "nothing"


# --- approval and issue ----------------------------------------------------------------------


def test_an_issued_invoice_has_everything_at_once():
    entity = make.seller()
    who, invoice = billed(entity, used=[("2000", "2026-11-10")])
    clerk = make.person()
    numbers = issue(invoice.pk, approver=clerk, issue_on=date(2026, 12, 1), actor_id=clerk.pk)
    invoice.refresh_from_db()
    assert numbers == {invoice.pk: f"{entity.code}-2026-000001"}
    assert (invoice.state, invoice.number, invoice.sequence) == ("issued", numbers[invoice.pk], 1)
    assert (invoice.issued_on, invoice.due_on) == (date(2026, 12, 1), date(2026, 12, 15))
    assert invoice.tax_point_on == date(2026, 12, 1)
    assert InvoiceBalance.objects.get(invoice=invoice).due == invoice.payable
    assert InvoiceDocument.objects.get(invoice=invoice).state == "waiting"
    snapshot = invoice.snapshot
    assert snapshot["number"] == invoice.number
    assert snapshot["buyer"]["code"] == who.code
    assert Decimal(snapshot["payable"]) == invoice.payable
    assert [line["net"] for line in snapshot["lines"]] == ["12.00", "100.00", "12.00"] or (
        sum(Decimal(line["net"]) for line in snapshot["lines"]) == invoice.net
    )
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


def test_issue_posts_receivable_contract_per_line_and_vat():
    entity = make.seller()
    _, invoice = billed(entity, used=[("2000", "2026-11-10")])
    issue(invoice.pk)
    entry = JournalEntry.objects.get(invoice=invoice, recipe="invoice_issued")
    postings = Posting.objects.filter(entry=entry)
    assert sorted((p.account, p.amount) for p in postings) == [
        ("contract", Decimal("-100.00")),
        ("contract", Decimal("-12.00")),
        ("contract", Decimal("-12.00")),
        ("receivable", Decimal("152.52")),
        ("tax_due", Decimal("-28.52")),
    ]
    lines = {f"line:{pk}" for pk in invoice.lines.values_list("pk", flat=True)}
    assert {p.source for p in postings if p.account == "contract"} == lines


def test_vat_due_on_payment_is_pending_at_issue():
    entity = make.seller(vat_due="payment")
    _, invoice = billed(entity)
    issue(invoice.pk)
    accounts = set(Posting.objects.filter(entry__invoice=invoice).values_list("account", flat=True))
    assert accounts == {"receivable", "contract", "tax_pending"}


def test_issuing_again_adds_nothing():
    entity = make.seller()
    _, invoice = billed(entity)
    first = issue(invoice.pk)
    assert len(first) == 1
    assert invoicing.issue_many([invoice.pk], at=NOW) == {}
    assert JournalEntry.objects.filter(invoice=invoice).count() == 1
    assert NumberSeries.objects.get(legal_entity=entity).next_number == 2


def test_a_draft_that_is_not_approved_is_not_issued():
    entity = make.seller()
    _, invoice = billed(entity)
    with pytest.raises(IllegalTransition):
        invoicing.issue_many([invoice.pk], at=NOW)
    assert not NumberSeries.objects.filter(legal_entity=entity).exists()


def test_a_rolled_back_issue_returns_its_number():
    entity = make.seller()
    (_, first), (_, second) = billed(entity), billed(entity)
    invoicing.approve_many([first.pk, second.pk], approved_by_id=None)
    with transaction.atomic():
        invoicing.issue_many([first.pk], at=NOW)
        transaction.set_rollback(True)
    numbers = invoicing.issue_many([second.pk], at=NOW)
    assert numbers[second.pk].endswith("000001")
    make.assert_numbers_are_gapless(entity)


@pytest.mark.parametrize("field", ["name", "street", "city", "country"])
def test_a_customer_without_legal_particulars_gets_no_invoice(field):
    entity = make.seller()
    who, invoice = billed(entity)
    setattr(who, field, " " if field != "country" else "")
    who.save()
    with pytest.raises(MissingData, match="Fill in"):
        issue(invoice.pk)
    assert not NumberSeries.objects.filter(legal_entity=entity).exists()


def test_an_invoice_is_never_dated_in_the_future():
    entity = make.seller()
    _, invoice = billed(entity)
    with pytest.raises(MissingData, match="future"):
        issue(invoice.pk, issue_on=date(2026, 12, 2))


def test_the_day_of_issue_is_the_sellers_day():
    entity = make.seller(time_zone="Pacific/Auckland")
    _, invoice = billed(entity)
    issue(invoice.pk, at=datetime(2026, 12, 1, 12, 0, tzinfo=UTC))
    invoice.refresh_from_db()
    assert invoice.issued_on == date(2026, 12, 2)


def test_a_date_before_the_last_one_of_the_series_is_refused_in_words():
    entity = make.seller()
    (_, first), (_, second) = billed(entity), billed(entity)
    issue(first.pk, issue_on=date(2026, 12, 1))
    with pytest.raises(MissingData, match="2026-12-01"):
        issue(second.pk, issue_on=date(2026, 11, 30))


def test_numbers_start_again_each_year():
    entity = make.seller()
    (_, first), (_, second) = billed(entity), billed(entity)
    issue(first.pk)
    numbers = issue(second.pk, at=NOW + timedelta(days=40))
    assert numbers[second.pk] == f"{entity.code}-2027-000001"
    make.assert_numbers_are_gapless(entity)


def test_the_maker_of_a_draft_cannot_approve_it():
    entity = make.seller()
    clerk, who = make.person(), make.customer(entity)
    make.subscribe(who, make.version(), NOVEMBER[0])
    (outcome,) = draft(entity, who, created_by_id=clerk.pk)
    with pytest.raises(DatabaseError, match="invoice_maker_is_not_checker"), transaction.atomic():
        invoicing.approve_many([outcome.invoice_id], approved_by_id=clerk.pk)
    with pytest.raises(DatabaseError), transaction.atomic():
        invoicing.approve_many([outcome.invoice_id], approved_by_id=None)
    assert invoicing.approve_many([outcome.invoice_id], approved_by_id=make.person().pk) == 1


def test_terms_of_the_customer_come_before_the_sellers():
    entity = make.seller(payment_terms_days=30)
    (_, usual), (_, special) = billed(entity), billed(entity, payment_terms_days=0)
    issue(usual.pk, special.pk)
    for invoice, days in ((usual, 30), (special, 0)):
        invoice.refresh_from_db()
        assert invoice.due_on == invoice.issued_on + timedelta(days=days)


def test_the_snapshot_does_not_follow_later_edits():
    entity = make.seller()
    who, invoice = billed(entity)
    issue(invoice.pk)
    who.name = "Renamed"
    who.save()
    entity.legal_name = "Renamed"
    entity.save()
    invoice.refresh_from_db()
    assert invoice.snapshot["buyer"]["name"] == "Harbour Prints"
    assert invoice.snapshot["seller"]["legal_name"] == "Tidewater Imaging Limited"


def test_sums_of_many_small_invoices_agree_to_the_last_digit():
    entity = make.seller()
    plan = make.version()
    people = [make.customer(entity) for _ in range(30)]
    for n, who in enumerate(people):
        subscription = make.subscribe(who, plan, date(2026, 11, 1 + n))
        make.record(
            make.use(subscription, f"{n * 17 + 1}.{n:03}", make.instant("2026-11-30T20:00"))
        )
    outcomes = draft(entity, *people)
    ids = [o.invoice_id for o in outcomes]
    assert len(issue(*ids)) == 30
    for invoice in Invoice.objects.filter(pk__in=ids):
        assert sum(x.net for x in invoice.lines.all()) == invoice.net
        assert invoice.gross == invoice.net + invoice.tax == invoice.payable
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)
