"""Issued invoices, their numbers and what they billed never change, whoever tries as the site."""

import threading
import time
from datetime import date
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from billing import invoicing
from billing.models import (
    BilledPeriod,
    Customer,
    Invoice,
    InvoiceDocument,
    InvoiceLine,
    InvoiceTax,
    LegalEntity,
    NumberSeries,
)
from billing.rules import money
from tests import factories as make
from tests.factories import NOVEMBER, NOW

pytestmark = pytest.mark.django_db


def drafted(entity=None):
    entity = entity or make.seller()
    who = make.customer(entity)
    make.subscribe(who, make.version(), NOVEMBER[0])
    (outcome,) = invoicing.draft_many(
        [who.pk],
        legal_entity_id=entity.pk,
        through=NOVEMBER[1],
        issue_on=NOVEMBER[1],
        key_prefix=make.unique(),
    )
    return Invoice.objects.get(pk=outcome.invoice_id)


def issued(entity=None):
    invoice = drafted(entity)
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    invoicing.issue_many([invoice.pk], at=NOW)
    invoice.refresh_from_db()
    return invoice


def refused(call, says=None):
    def checked():
        call()
        connection.check_constraints()

    with pytest.raises(DatabaseError, match=says), transaction.atomic():
        checked()


@pytest.mark.parametrize(
    "change",
    [
        {"net": Decimal("1.00")},
        {"gross": Decimal("1.00"), "net": Decimal("1.00"), "tax": 0, "payable": Decimal("1.00")},
        {"number": "X-1"},
        {"sequence": 99},
        {"issued_on": date(2026, 12, 2)},
        {"due_on": date(2030, 1, 1)},
        {"snapshot": {}},
        {"notes": "x"},
        {"state": "draft"},
        {"state": "approved"},
        {"currency": "CHF"},
        {"key": "other"},
        {"state": "void", "notes": "x"},
    ],
)
def test_an_issued_invoice_is_not_changed(change):
    invoice = issued()
    refused(lambda: Invoice.objects.filter(pk=invoice.pk).update(**change), "issued")


def test_an_issued_invoice_moves_to_no_other_customer():
    invoice, other = issued(), make.customer(make.seller())
    refused(lambda: Invoice.objects.filter(pk=invoice.pk).update(customer=other))


def test_an_issued_invoice_is_not_deleted_with_or_without_its_lines():
    invoice = issued()
    refused(lambda: InvoiceLine.objects.filter(invoice=invoice).delete(), "cannot be changed")
    refused(lambda: InvoiceTax.objects.filter(invoice=invoice).delete(), "cannot be changed")
    refused(lambda: Invoice.objects.filter(pk=invoice.pk)._raw_delete("default"), "issued")


def credited(invoice):
    """A credit note over all of an invoice, issued."""
    note = Invoice.objects.create(
        kind="credit_note",
        corrects=invoice,
        key=make.unique("note"),
        **{
            name: getattr(invoice, name)
            for name in (
                "legal_entity",
                "customer",
                "currency",
                "supply_from",
                "supply_to",
                "net",
                "tax",
                "gross",
                "payable",
            )
        },
    )
    for part in (*invoice.lines.all(), *invoice.taxes.all()):
        part.pk, part.invoice = None, note
        part.save()
    invoicing.approve_many([note.pk], approved_by_id=None)
    invoicing.issue_many([note.pk], at=NOW)
    note.refresh_from_db()
    return note


def test_an_issued_invoice_may_only_become_void_and_stays_it():
    invoice, other = issued(), issued()
    row = Invoice.objects.filter(pk=invoice.pk)
    refused(lambda: row.update(state="void"), "credit note")
    note = credited(invoice)
    refused(lambda: Invoice.objects.filter(pk=other.pk).update(state="void"), "credit note")
    refused(lambda: Invoice.objects.filter(pk=note.pk).update(state="void"), "credit note")
    row.update(state="void")
    refused(lambda: Invoice.objects.filter(pk=invoice.pk).update(state="issued"), "issued")


def test_lines_and_tax_of_an_issued_invoice_are_frozen():
    invoice = issued()
    line, group = invoice.lines.first(), invoice.taxes.get()
    refused(lambda: InvoiceLine.objects.filter(pk=line.pk).update(net=1), "cannot be changed")
    refused(lambda: InvoiceTax.objects.filter(pk=group.pk).update(tax=1), "cannot be changed")
    line.pk, line.position = None, 99
    refused(line.save, "cannot be changed")
    group.pk, group.category = None, "Z"
    refused(group.save, "cannot be changed")


def test_a_line_does_not_move_from_a_draft_to_an_issued_invoice():
    entity = make.seller()
    frozen, open_ = issued(entity), drafted(entity)
    line = open_.lines.first()
    moved = InvoiceLine.objects.filter(pk=line.pk)
    other = {"invoice": frozen, "customer": frozen.customer, "position": 9, "subscription": None}
    refused(lambda: moved.update(**other), "stays")


@pytest.mark.parametrize("target", ["approved", "issued", "void"])
def test_a_draft_skips_no_step(target):
    invoice = drafted()
    refused(lambda: Invoice.objects.filter(pk=invoice.pk).update(state=target))


def test_an_invoice_starts_as_a_draft():
    invoice = drafted()
    invoice.pk = None
    invoice.key, invoice.public_id, invoice.state = "x", "0" * 32, "approved"
    refused(invoice.save, "draft")


def test_a_draft_is_not_issued_by_writing_the_state():
    invoice = drafted()
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    refused(
        lambda: Invoice.objects.filter(pk=invoice.pk).update(state="issued"), "only_when_issued"
    )


@pytest.mark.parametrize("part", ["line", "taxable", "tax"])
def test_what_does_not_add_up_is_not_issued(part):
    invoice = drafted()
    if part == "line":
        InvoiceLine.objects.filter(pk=invoice.lines.first().pk).update(net=Decimal("12.01"))
    else:
        InvoiceTax.objects.filter(invoice=invoice).update(**{part: Decimal("5.53")})
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    series = NumberSeries.objects.create(
        legal_entity_id=invoice.legal_entity_id, kind="invoice", year=2026
    )
    issue = {
        "state": "issued",
        "series": series,
        "sequence": 1,
        "number": "X-1",
        "issued_on": date(2026, 12, 1),
        "due_on": date(2026, 12, 1),
        "issued_at": NOW,
        "tax_point_on": date(2026, 12, 1),
        "snapshot": {},
    }
    refused(lambda: Invoice.objects.filter(pk=invoice.pk).update(**issue), "does not add up")


def test_what_is_approved_is_what_is_issued():
    invoice = drafted()
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    line, lines = invoice.lines.first(), InvoiceLine.objects.filter(invoice=invoice)
    refused(lambda: lines.update(net=1), "cannot be changed before")
    refused(lambda: lines.update(description="x"), "cannot be changed before")
    refused(lines.delete, "cannot be changed before")
    refused(lambda: InvoiceTax.objects.filter(invoice=invoice).update(tax=0), "before")
    line.pk, line.position = None, 99
    refused(line.save, "cannot be changed before")
    row = Invoice.objects.filter(pk=invoice.pk)
    refused(lambda: row.update(net=1, gross=F("tax") + 1, payable=F("tax") + 1), "approved as it")
    refused(lambda: row.update(notes="x"), "approved as it is")
    refused(lambda: row.update(approved_by=make.person()), "approved as it is")
    lines.update(tax_point_on=date(2026, 11, 30))
    row.update(state="draft")
    lines.update(description="x")


def forged(change):
    """An invoice approved with its VAT groups changed while it was a draft."""
    invoice = drafted()
    with connection.cursor() as cursor:
        cursor.execute(change, {"id": invoice.pk})
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    return invoice


@pytest.mark.parametrize(
    "change",
    [
        # Another rate on the line than in its group.
        "UPDATE billing_invoiceline SET tax_rate = 9 WHERE invoice_id = %(id)s",
        "UPDATE billing_invoicetax SET category = 'Z' WHERE invoice_id = %(id)s",
        # No VAT at 23 %, with totals that agree.
        (
            "UPDATE billing_invoicetax SET tax = 0 WHERE invoice_id = %(id)s;"
            " UPDATE billing_invoice SET tax = 0, gross = net, payable = net WHERE id = %(id)s"
        ),
        # A coin more.
        (
            "UPDATE billing_invoicetax SET tax = tax + 0.01 WHERE invoice_id = %(id)s;"
            " UPDATE billing_invoice SET tax = tax + 0.01, gross = gross + 0.01,"
            " payable = payable + 0.01 WHERE id = %(id)s"
        ),
    ],
)
def test_vat_is_that_of_the_lines(change):
    invoice = forged(change)
    refused(lambda: invoicing.issue_many([invoice.pk], at=NOW), "does not add up")


@pytest.mark.parametrize("field", ["number", "net", "tax", "gross", "payable", "issued_on"])
def test_the_document_says_what_the_columns_say(field, monkeypatch):
    invoice = drafted()
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    dumps = invoicing.json.dumps

    def lying(rows):
        if isinstance(rows, list):
            rows[0]["snapshot"][field] = "1"
        return dumps(rows)

    monkeypatch.setattr(invoicing, "json", SimpleNamespace(dumps=lying))
    refused(lambda: invoicing.issue_many([invoice.pk], at=NOW), "says something else")


def test_currencies_have_the_decimals_of_the_rules():
    codes = [*money._EXPONENTS, "EUR", "USD", "CHF"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT c, billing_currency_places(c) FROM unnest(%s::text[]) c", [codes])
        assert dict(cursor.fetchall()) == {code: money.exponent(code) for code in codes}


def test_a_draft_may_still_be_corrected_and_discarded():
    invoice = drafted()
    InvoiceLine.objects.filter(invoice=invoice).update(description="corrected")
    BilledPeriod.objects.filter(invoice=invoice).delete()
    InvoiceLine.objects.filter(invoice=invoice).delete()
    InvoiceTax.objects.filter(invoice=invoice).delete()
    invoice.delete()


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"next_number": 1},
        {"last_issued_on": date(2026, 1, 1)},
        {"year": 2027},
        {"kind": "credit_note"},
    ],
)
def test_a_series_only_runs_forward(change):
    invoice = issued()
    refused(lambda: NumberSeries.objects.filter(pk=invoice.series_id).update(**change), "forward")


def test_a_series_keeps_its_pattern_and_its_last_date():
    invoice = issued()
    series = NumberSeries.objects.filter(pk=invoice.series_id)
    refused(lambda: series.update(pattern="X-{n}"), "keeps its pattern")
    refused(lambda: series.update(last_issued_on=date(2026, 12, 31)), "with a number only")
    refused(
        lambda: series.update(last_issued_on=date(2026, 12, 31), next_number=F("next_number") + 1)
    )


@pytest.mark.parametrize(
    "taken",
    [
        {"sequence": 5000},
        {"issued_on": date(2026, 11, 30)},  # before the number before it
        {"issued_on": date(2026, 12, 30)},  # after the last day of the series
        {"issued_on": date(2027, 1, 1)},  # another year
        {"series_kind": "credit_note"},
    ],
)
def test_a_number_follows_from_its_series(taken):
    entity = make.seller()
    series = NumberSeries.objects.get(pk=issued(entity).series_id)
    invoice = drafted(entity)
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    if "series_kind" in taken:
        series = NumberSeries.objects.create(
            legal_entity=entity,
            kind=taken["series_kind"],
            year=2026,
            next_number=3,
            last_issued_on=date(2026, 12, 1),
        )
    day = taken.get("issued_on", date(2026, 12, 1))
    snapshot = {"number": "X-1", "kind": "invoice", "currency": "EUR", "paid": "0"}
    figures = {name: str(getattr(invoice, name)) for name in ("net", "tax", "gross", "payable")}
    issue = {
        "state": "issued",
        "series": series,
        "sequence": taken.get("sequence", 2),
        "number": "X-1",
        "issued_on": day,
        "due_on": day,
        "issued_at": NOW,
        "tax_point_on": day,
        "snapshot": snapshot | figures | {"issued_on": day.isoformat()},
    }

    def take():
        NumberSeries.objects.filter(pk=series.pk).update(next_number=3)
        Invoice.objects.filter(pk=invoice.pk).update(**issue)

    refused(take, "does not follow")


def test_a_number_cannot_be_skipped():
    invoice = issued()
    refused(
        lambda: NumberSeries.objects.filter(pk=invoice.series_id).update(next_number=5),
        "stand on 0 invoices",
    )


def test_a_series_that_gave_none_may_start_anywhere():
    entity = make.seller()
    series = NumberSeries.objects.create(legal_entity=entity, kind="invoice", year=2026)
    NumberSeries.objects.filter(pk=series.pk).update(next_number=418)
    connection.check_constraints()
    assert issued(entity).number == f"{entity.code}-2026-000418"


def test_a_series_that_gave_numbers_is_kept():
    invoice = issued()
    refused(lambda: NumberSeries.objects.filter(pk=invoice.series_id)._raw_delete("default"))


# --- what was billed, files, sellers ----------------------------------------------------------


def test_what_an_issued_invoice_billed_stays_billed():
    invoice = issued()
    periods = BilledPeriod.objects.filter(invoice=invoice)
    refused(periods.delete, "stays billed")
    refused(lambda: periods.update(voided=True), "stays billed")
    refused(lambda: periods.update(period=(date(2020, 1, 1), date(2020, 2, 1))), "only ever voided")
    credited(invoice)
    Invoice.objects.filter(pk=invoice.pk).update(state="void")
    periods.update(voided=True)
    refused(lambda: periods.update(voided=False), "only ever voided")
    refused(periods.delete, "stays billed")


def test_a_draft_marks_what_it_bills_until_it_is_approved():
    invoice = drafted()
    periods = BilledPeriod.objects.filter(invoice=invoice)
    refused(lambda: periods.update(voided=True), "stays billed")
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    refused(lambda: periods.update(voided=True), "stays billed")
    refused(periods.delete, "stays billed")
    another = periods.first()
    another.pk, another.period = None, (date(2030, 1, 1), date(2030, 2, 1))
    refused(another.save, "bills no further period")
    invoicing.issue_many([invoice.pk], at=NOW)
    refused(another.save, "bills no further period")


def test_nothing_is_issued_that_is_not_marked_as_billed():
    invoice = drafted()
    BilledPeriod.objects.filter(invoice=invoice).delete()
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    refused(lambda: invoicing.issue_many([invoice.pk], at=NOW), "not marked as billed")


def test_a_file_is_set_once_and_kept():
    invoice = issued()
    document = InvoiceDocument.objects.filter(invoice=invoice)
    document.update(state="parked", reason="x")
    document.update(state="waiting", reason="")
    document.update(state="ready", storage_name="a", sha256="b", size=1)
    refused(lambda: document.update(sha256="c"), "set once")
    refused(lambda: document.update(state="waiting"), "set once")
    refused(document.delete, "kept")


def test_a_seller_never_turns_into_a_demonstration_and_back():
    entity, demo = make.seller(), make.seller(is_demo=True)
    refused(lambda: LegalEntity.objects.filter(pk=entity.pk).update(is_demo=True))
    refused(lambda: LegalEntity.objects.filter(pk=demo.pk).update(is_demo=False))


def test_a_customer_keeps_its_seller():
    who, other = make.customer(make.seller()), make.seller()
    refused(lambda: Customer.objects.filter(pk=who.pk).update(legal_entity=other))


def test_a_billed_customer_keeps_its_time_zone_and_currency():
    who = issued().customer
    refused(lambda: Customer.objects.filter(pk=who.pk).update(time_zone="Asia/Tokyo"))
    refused(lambda: Customer.objects.filter(pk=who.pk).update(currency="USD"))
    fresh = make.customer(make.seller())
    assert Customer.objects.filter(pk=fresh.pk).update(time_zone="Asia/Tokyo", currency="USD") == 1


def test_another_vat_id_is_not_confirmed_yet():
    who = make.customer(make.seller(), vat_id="DE1", vat_id_valid_on="2026-01-01")
    Customer.objects.filter(pk=who.pk).update(vat_id="DE2")
    who.refresh_from_db()
    assert who.vat_id_valid_on is None


def test_saying_that_demonstration_is_removed_opens_nothing():
    invoice = issued()
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('keter.removing_demo', 'on', true)")
    refused(lambda: InvoiceLine.objects.filter(invoice=invoice).delete())
    refused(lambda: Invoice.objects.filter(pk=invoice.pk)._raw_delete("default"))
    refused(lambda: BilledPeriod.objects.filter(invoice=invoice).delete())


@pytest.mark.parametrize(
    "shadow",
    [
        "CREATE TEMP TABLE billing_invoice (id bigint, state text) ON COMMIT DROP",
        (
            "SET LOCAL keter.removing_demo = 'on'; CREATE TEMP TABLE pg_class ON COMMIT DROP AS"
            " SELECT 'public.billing_legalentity'::regclass::oid AS oid, r.oid AS relowner"
            " FROM pg_roles r WHERE rolname = current_user"
        ),
    ],
)
def test_a_temporary_table_blinds_no_guard(shadow):
    invoice = issued()
    with connection.cursor() as cursor:
        cursor.execute(shadow)
        for change in (
            "DELETE FROM public.billing_invoiceline WHERE invoice_id = %s",
            "UPDATE public.billing_invoiceline SET net = 1 WHERE invoice_id = %s",
        ):
            refused(partial(cursor.execute, change, [invoice.pk]), "cannot be changed")


def test_removing_the_demonstration_leaves_everybody_else():
    real, demo = issued(), issued(make.seller(is_demo=True))
    connection.check_constraints()  # as their commit would have
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM billing_remove_demo()")
        removed = dict(cursor.fetchall())
    assert removed["billing_invoice"] >= 1
    assert not LegalEntity.objects.filter(pk=demo.legal_entity_id).exists()
    assert Invoice.objects.filter(pk=real.pk).exists()
    refused(lambda: InvoiceLine.objects.filter(invoice=real).delete())


# --- at the same time ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
@pytest.mark.parametrize("change", ["add", "edit", "remove"])
def test_no_line_changes_while_the_invoice_is_being_issued(change):
    """Asked between the sums and the commit, the change waits, and then it is too late."""
    invoice = drafted()
    invoicing.approve_many([invoice.pk], approved_by_id=None)
    line = invoice.lines.first()
    issuing, failures = threading.Event(), []

    def meddle():
        issuing.wait(10)
        try:
            if change == "add":
                line.pk, line.position = None, 99
                line.save()
            elif change == "edit":
                InvoiceLine.objects.filter(pk=line.pk).update(net=Decimal("0.01"))
            else:
                InvoiceLine.objects.filter(pk=line.pk).delete()
        except DatabaseError as failure:
            failures.append(str(failure))
        finally:
            connection.close()

    thread = threading.Thread(target=meddle)
    thread.start()
    with transaction.atomic():
        invoicing.issue_many([invoice.pk], at=NOW)
        issuing.set()
        time.sleep(0.3)
    thread.join()
    assert len(failures) == 1
    assert "cannot be changed" in failures[0]
    invoice.refresh_from_db()
    assert sum(x.net for x in invoice.lines.all()) == invoice.net
