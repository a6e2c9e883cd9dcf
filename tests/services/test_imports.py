"""A usage file is read once, however often and however broken; every row is accounted for."""

import csv
import threading
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction

from billing import imports, invoicing, topups
from billing.errors import MissingData
from billing.models import (
    Charge,
    CreditBalance,
    CreditGrant,
    Customer,
    Hold,
    Invoice,
    Subscription,
    UsageEvent,
    UsageImport,
)
from tests import factories as make

pytestmark = pytest.mark.django_db
AS_OF = datetime(2026, 12, 31, tzinfo=UTC)
HEAD = "customer,occurred_at,quantity,key"


@pytest.fixture
def entity():
    return make.seller()


@pytest.fixture
def onboard():
    """Lets every unknown number in, on a plan of its own kind."""
    plan = make.version(
        make.overage(), make.usage_price(meter=_meter()), allowance_credits=Decimal(100)
    )

    def rules(entity, version=plan, packs=None, zone="UTC"):
        return imports.Rules(
            onboard=lambda code: imports.NewCustomer(
                particulars={
                    "name": code,
                    "street": "1 Road",
                    "city": "Cork",
                    "country": entity.country,
                    "currency": "EUR",
                    "time_zone": zone,
                },
                plan_version_id=version.pk,
            ),
            packs=packs or {},
        )

    return rules


def _meter():
    from billing.models import Meter

    found, _ = Meter.objects.get_or_create(
        code="image-generation", defaults={"name": "Image generation", "unit": "units"}
    )
    return found


def write(path, *rows, head=HEAD, encoding="utf-8"):
    path.write_bytes("\n".join([head, *rows, ""]).encode(encoding))
    return path


def read(entity, path, rules=None, **fields):
    values = {"mapping": "plain", "as_of": AS_OF, "actor": "test"}
    return imports.import_usage(path, legal_entity_id=entity.pk, rules=rules, **values | fields)


def reasons(path):
    """The refused rows' keys, each with its reason and its remedy."""
    with path.open(newline="") as source:
        return {line["key"]: (line["reason"], line["remedy"]) for line in csv.DictReader(source)}


def row(who, day, quantity="10", key=None, time="10:00:00"):
    return f"{who},2026-11-{day:02}T{time},{quantity},{key or make.unique('k')}"


def events(entity):
    return UsageEvent.objects.filter(customer__legal_entity=entity)


# --- the ordinary way ------------------------------------------------------------------------


def test_customers_start_on_the_day_of_their_first_use(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", row("A", 5), row("A", 7), row("B", 6))
    report = read(entity, path, onboard(entity))
    assert (report.rows, report.known, report.rejected) == (3, 0, 0)
    assert dict(report.outcomes) == {"charged": 3}
    starts = dict(
        Subscription.objects.filter(customer__legal_entity=entity).values_list(
            "customer__code", "started_on"
        )
    )
    assert starts == {"A": date(2026, 11, 5), "B": date(2026, 11, 6)}
    assert (
        CreditBalance.objects.get(customer__code="A", customer__legal_entity=entity).available == 80
    )


def test_the_first_day_is_the_customers_own(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", row("A", 1, time="02:00:00"))
    read(entity, path, onboard(entity, zone="America/New_York"))
    assert Subscription.objects.get(customer__legal_entity=entity).started_on == date(2026, 10, 31)


def test_the_record_ties_to_its_rows(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", row("A", 5), row("A", 5, "x"), row("A", 5, key="same"))
    read(entity, path, onboard(entity), rejected_path=tmp_path / "bad.csv")
    record = UsageImport.objects.get(legal_entity=entity)
    assert (record.state, record.rows_read, record.rows_new) == ("done", 3, 2)
    assert (record.rows_known, record.rows_rejected) == (0, 1)
    assert record.events.count() == 2
    assert record.rejected_file.endswith("bad.csv")
    assert record.finished_at


def test_rows_of_a_day_are_booked_in_the_order_they_happened(entity, onboard, tmp_path):
    block = make.version(make.usage_price(meter=_meter()), allowance_credits=Decimal(10))
    path = write(
        tmp_path / "u.csv",
        row("A", 5, "8", key="late", time="12:00:00"),
        row("A", 5, "8", key="early", time="09:00:00"),
    )
    read(entity, path, onboard(entity, block))
    assert dict(events(entity).values_list("key", "outcome")) == {
        "early": "charged",
        "late": "refused",
    }


# --- again -----------------------------------------------------------------------------------


def test_reading_again_adds_nothing(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", *(row(f"C{n % 3}", n + 1) for n in range(20)))
    first = read(entity, path, onboard(entity))
    again = read(entity, path, onboard(entity))
    assert (first.outcomes["charged"], first.known) == (20, 0)
    assert (dict(again.outcomes), again.known) == ({}, 20)
    assert Charge.objects.filter(customer__legal_entity=entity).count() == 20


def test_a_longer_file_adds_its_new_rows(entity, onboard, tmp_path):
    rows = [row("A", n + 1) for n in range(6)]
    read(entity, write(tmp_path / "1.csv", *rows[:4]), onboard(entity))
    report = read(entity, write(tmp_path / "2.csv", *rows), onboard(entity))
    assert (report.known, report.outcomes["charged"]) == (4, 2)


def test_an_interrupted_import_goes_on_where_it_stood(entity, onboard, tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "BATCH", 5)
    path = write(tmp_path / "u.csv", *(row("A", 3, "1", key=f"k{n}") for n in range(17)))

    def stop_at_twelve(rows):
        seen.append(rows)
        if len(seen) == 12:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        read(entity, path, onboard(entity), progress=stop_at_twelve)
    record = UsageImport.objects.get(legal_entity=entity)
    assert record.state == "stopped"
    assert events(entity).count() == record.rows_new == 10
    report = read(entity, path, onboard(entity))
    assert (report.known, report.outcomes["charged"]) == (10, 7)
    assert CreditBalance.objects.get(customer__legal_entity=entity).available == 83


def test_equal_rows_without_a_key_are_told_apart_by_their_ordinal(entity, onboard, tmp_path):
    head = (
        "gmt_create,predict_type,predict_status,groupId,num_images_per_prompt,"
        "num_inference_steps,checkpoint_model_version_id,num_lora"
    )
    one = "2026-11-05 10:00:00,T,SUCCEED,G1,1.0,10.0,M,0"
    path = write(tmp_path / "g.csv", one, one, one, head=head)
    report = read(entity, path, onboard(entity), mapping="genai")
    assert report.outcomes["charged"] == 3
    again = read(entity, path, onboard(entity), mapping="genai")
    assert again.known == 3


def test_the_real_file_of_stages_is_told_apart(entity, onboard, tmp_path):
    head = (
        "gmt_create,predict_type,predict_status,groupId,num_images_per_prompt,"
        "num_inference_steps,checkpoint_model_version_id,num_lora"
    )
    path = write(
        tmp_path / "g.csv",
        "2026-11-05 10:00:00,T,SUCCEED,G1,1.0,10.0,M,0",
        "2026-11-05 10:01:00,T,FAILED,G1,1.0,10.0,M,0",
        "2026-11-05 10:02:00,T,PENDING,G1,2.0,20.0,M,2",
        "2026-11-05 10:03:00,T,PROCESSING,G1,,,M,0",
        head=head,
    )
    report = read(entity, path, onboard(entity), mapping="genai")
    assert dict(report.outcomes) == {"charged": 1, "free": 1, "held": 1, "unpriced": 1}
    hold = Hold.objects.get(customer__legal_entity=entity)
    assert (hold.amount, hold.expires_at) == (6, datetime(2027, 1, 30, tzinfo=UTC))


# --- bad rows --------------------------------------------------------------------------------


def test_bad_rows_are_listed_and_the_others_stand(entity, onboard, tmp_path):
    bad = tmp_path / "bad.csv"
    path = write(
        tmp_path / "u.csv",
        row("A", 5),
        row("A", 5, "NaN"),
        row("=cmd|' /C calc'!A0", 5),
        "A,not a time,1,k1",
        "A,2026-11-05T10:00:00,1",
        "A,2026-11-05T10:00:00,1,k2,extra,more",
        row("A", 5, "1e9"),
        row("A", 5, "99999999999"),
        "A,2026-11-05T10:00:00,1,k\0k",
        "A,9999-12-31T23:59:59-14:00,1,k3",
        "A,2031-01-01T00:00:00,1,k4",
        row("A", 6),
    )
    report = read(entity, path, onboard(entity), rejected_path=bad)
    assert (report.rows, report.rejected, report.outcomes["charged"]) == (12, 9, 3)
    with bad.open(newline="") as source:
        listed = list(csv.DictReader(source))
    assert len(listed) == 9
    assert all(line["field"] and line["reason"] and line["remedy"] for line in listed)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"])
def test_no_cell_of_the_list_is_a_formula(entity, tmp_path, start):
    bad = tmp_path / "bad.csv"
    path = tmp_path / "u.csv"
    with path.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(HEAD.split(","))
        writer.writerow([f"{start}1+1", f"{start}x", f"{start}1", f"{start}k"])
    read(entity, path, rejected_path=bad)
    with bad.open(newline="") as source:
        (_, listed) = csv.reader(source)
    assert [cell[0] for cell in listed[4:]] == ["'"] * 4


def test_unknown_customers_are_refused_without_a_rule(entity, tmp_path):
    make.subscribe(make.customer(entity, code="KNOWN"), make.version(), date(2026, 11, 1))
    path = write(tmp_path / "u.csv", row("KNOWN", 5), row("STRANGER", 5))
    report = read(entity, path)
    assert (report.rejected, events(entity).count()) == (1, 1)
    assert not Customer.objects.filter(code="STRANGER").exists()


def test_a_customer_of_another_seller_is_a_stranger(entity, tmp_path):
    other = make.seller()
    make.subscribe(make.customer(other, code="THEIRS"), make.version(), date(2026, 11, 1))
    report = read(entity, write(tmp_path / "u.csv", row("THEIRS", 5)))
    assert report.rejected == 1
    assert not events(other).exists()


def test_use_before_the_subscription_is_refused(entity, tmp_path):
    make.subscribe(make.customer(entity, code="A"), make.version(), date(2026, 11, 10))
    report = read(entity, write(tmp_path / "u.csv", row("A", 9), row("A", 10)))
    assert (report.rejected, events(entity).count()) == (1, 1)


@pytest.mark.parametrize(
    ("head", "rows", "says"),
    [
        ("customer,occurred_at,quantity", [], "no column key"),
        ("", [], "no column"),
        (HEAD, ['A,2026-11-05T10:00:00,1,"k'], "cannot be read"),
        (HEAD, ["A,2026-11-05T10:00:00,1," + "k" * 20_000], "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_stops_with_words(entity, onboard, tmp_path, head, rows, says):
    path = write(tmp_path / "u.csv", *rows, head=head)
    with pytest.raises(MissingData, match=says):
        read(entity, path, onboard(entity))
    assert not events(entity).exists()


def test_a_file_in_another_encoding_stops_with_words(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", row("Zürich", 5), encoding="latin-1")
    with pytest.raises(MissingData, match="UTF-8"):
        read(entity, path, onboard(entity))


def test_a_byte_order_mark_is_no_part_of_the_first_column(entity, onboard, tmp_path):
    path = write(tmp_path / "u.csv", row("A", 5), encoding="utf-8-sig")
    assert read(entity, path, onboard(entity)).outcomes["charged"] == 1


def test_no_file_and_no_mapping_are_told(entity, tmp_path):
    with pytest.raises(MissingData, match="not a file"):
        read(entity, tmp_path / "none.csv")
    with pytest.raises(MissingData, match="no mapping"):
        read(entity, write(tmp_path / "u.csv"), mapping="x")


# --- whose plan ------------------------------------------------------------------------------


def test_a_plan_that_will_end_still_takes_use_and_no_second_one_starts(entity, onboard, tmp_path):
    who = make.customer(entity, code="A")
    make.subscribe(who, make.version(), date(2026, 11, 1), ended_on=date(2027, 3, 1))
    report = read(entity, write(tmp_path / "u.csv", row("A", 5)), onboard(entity))
    assert (report.rejected, events(entity).count()) == (0, 1)
    assert who.subscriptions.count() == 1


def test_use_belongs_to_the_plan_of_its_day_in_the_customers_zone(entity, onboard, tmp_path):
    who = make.customer(entity, code="A", time_zone="America/New_York")
    old = make.subscribe(who, make.version(), date(2026, 11, 1), ended_on=date(2026, 11, 10))
    new = make.subscribe(who, make.version(), date(2026, 11, 10), ended_on=date(2026, 11, 20))
    bad = tmp_path / "bad.csv"
    path = write(
        tmp_path / "u.csv",
        row("A", 10, key="old", time="04:30:00"),  # half past eleven in the evening of the 9th
        row("A", 10, key="new", time="05:30:00"),
        row("A", 20, key="none", time="05:30:00"),
    )
    read(entity, path, onboard(entity), rejected_path=bad)
    assert dict(events(entity).values_list("key", "subscription_id")) == {
        "old": old.pk,
        "new": new.pk,
    }
    assert reasons(bad)["none"][0] == "A had no plan on 2026-11-20."
    assert who.subscriptions.count() == 2


def test_use_of_a_customer_with_two_plans_is_refused(entity, tmp_path):
    who, bad = make.customer(entity, code="A"), tmp_path / "bad.csv"
    for _ in range(2):
        make.subscribe(who, make.version(), date(2026, 11, 1))
    path = write(tmp_path / "u.csv", row("A", 5, key="k"))
    assert read(entity, path, rejected_path=bad).rejected == 1
    assert "2 plans on 2026-11-05" in reasons(bad)["k"][0]


def test_a_customer_who_cannot_be_entered_stops_nobody(entity, onboard, tmp_path):
    bad, draft = tmp_path / "bad.csv", make.version(publish=False)
    make.subscribe(make.customer(entity, code="KNOWN"), make.version(), date(2026, 11, 1))
    path = write(tmp_path / "u.csv", row("NEW", 5, key="k"), row("NEW", 5), row("KNOWN", 5))
    report = read(entity, path, onboard(entity, draft), rejected_path=bad)
    assert (report.rejected, events(entity).count()) == (2, 1)
    assert "publish it first" in reasons(bad)["k"][0]
    assert not Customer.objects.filter(legal_entity=entity, code="NEW").exists()


# --- late rows -------------------------------------------------------------------------------


def priced_plan():
    """A plan whose use the files tell of is billed beyond the credits, of which it has none."""
    return make.version(make.overage(), make.usage_price(meter=_meter()))


def bill(entity, who, through):
    (outcome,) = invoicing.draft_many(
        [who.pk],
        legal_entity_id=entity.pk,
        through=through,
        issue_on=through,
        key_prefix=make.unique(),
    )
    return outcome


def test_use_of_a_period_on_an_invoice_is_refused_and_known_rows_stay_known(
    entity, onboard, tmp_path
):
    first, bad = row("A", 5, "500"), tmp_path / "bad.csv"
    read(entity, write(tmp_path / "1.csv", first), onboard(entity))
    who = Customer.objects.get(legal_entity=entity)
    draft = bill(entity, who, date(2026, 12, 1))
    path = write(tmp_path / "2.csv", first, row("A", 30, key="k"), "A,2026-12-01T00:00:00,1,next")
    report = read(entity, path, onboard(entity), rejected_path=bad)
    assert (report.known, report.rejected, report.outcomes["charged"]) == (1, 1, 1)
    assert reasons(bad)["k"][1] == (
        "A draft invoice holds this period: discard or issue it, then read the file again."
    )
    invoicing.approve_many([draft.invoice_id], approved_by_id=None)
    invoicing.issue_many([draft.invoice_id], at=AS_OF, actor_id=None)
    read(entity, path, onboard(entity), rejected_path=bad)
    assert reasons(bad)["k"][0] == "Its period is invoiced already."


def test_use_before_a_billed_period_is_no_part_of_it(entity, onboard, tmp_path):
    """November was not billed, December was: use of November is booked, of December refused."""
    who = make.customer(entity, code="A")
    make.subscribe(who, priced_plan(), date(2026, 11, 1))
    read(entity, write(tmp_path / "1.csv", "A,2026-12-05T10:00:00,1000,first"))
    assert bill(entity, who, date(2027, 1, 1)).state == "drafted"
    path = write(tmp_path / "2.csv", row("A", 20, key="nov"), "A,2026-12-20T10:00:00,1,dec")
    read(entity, path, rejected_path=tmp_path / "bad.csv")
    assert set(events(entity).values_list("key", flat=True)) == {"first", "nov"}
    assert set(reasons(tmp_path / "bad.csv")) == {"dec"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_use_read_while_a_draft_is_made_waits_and_finds_its_period_closed(entity, tmp_path):
    who = make.customer(entity, code="A")
    subscription = make.subscribe(who, priced_plan(), date(2026, 11, 1))
    read(entity, write(tmp_path / "1.csv", row("A", 5, "500")))
    path, reports = write(tmp_path / "2.csv", row("A", 6)), []

    def late():
        try:
            reports.append(read(entity, path))
        finally:
            connection.close()

    reader = threading.Thread(target=late)
    with transaction.atomic():
        Subscription.objects.select_for_update(no_key=True).get(pk=subscription.pk)
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
        assert bill(entity, who, date(2026, 12, 1)).state == "drafted"
    reader.join(30)
    assert [(report.rejected, dict(report.outcomes)) for report in reports] == [(1, {})]


def test_the_day_that_decides_is_the_customers(entity, onboard, tmp_path):
    """Half past eleven in the evening, UTC, is December in Auckland and November in New York."""
    for zone, expected in (("Pacific/Auckland", 0), ("America/New_York", 1)):
        code = make.unique("Z")
        rules = onboard(entity, zone=zone)
        read(entity, write(tmp_path / "1.csv", row(code, 5, "500")), rules)
        bill(entity, Customer.objects.get(code=code), date(2026, 12, 1))
        late = "2026-11-30T23:30:00" if zone == "Pacific/Auckland" else "2026-12-01T04:30:00"
        path = write(tmp_path / "2.csv", f"{code},{late},1,late-{code}")
        assert read(entity, path, rules).rejected == expected


def test_late_use_of_a_month_without_overage_is_billed_as_a_line_of_its_own(
    entity, onboard, tmp_path
):
    read(entity, write(tmp_path / "1.csv", row("A", 5, "50")), onboard(entity))
    who = Customer.objects.get(legal_entity=entity)
    assert bill(entity, who, date(2026, 12, 1)).state == "nothing"
    read(entity, write(tmp_path / "2.csv", row("A", 20, "1050")), onboard(entity))
    invoice = Invoice.objects.get(pk=bill(entity, who, date(2027, 1, 1)).invoice_id)
    line = invoice.lines.get()
    assert (line.supply_from, line.quantity) == (date(2026, 11, 5), 1000)


# --- packs -----------------------------------------------------------------------------------


def test_packs_are_bought_when_credits_run_short_and_never_twice(entity, onboard, tmp_path):
    plan = make.version(make.usage_price(meter=_meter()))
    pack = make.pack("250", "10.00")
    rules = onboard(entity, plan, {plan.pk: pack})
    rows = [row("A", 5, "7"), row("A", 5, "243"), row("A", 6, "1"), row("A", 6, "600")]
    path = write(tmp_path / "u.csv", *rows)
    report = read(entity, path, rules)
    assert dict(report.outcomes) == {"charged": 4}
    # 250 for the first two uses, 250 more for the third, two packs to close the gap of 351.
    assert report.packs == 4
    assert CreditBalance.objects.get(customer__legal_entity=entity).available == 149
    again = read(entity, path, rules)
    assert (again.known, again.packs) == (4, 0)
    assert Invoice.objects.filter(legal_entity=entity).count() == 3
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


def test_many_short_customers_in_one_batch(entity, onboard, tmp_path):
    plan = make.version(make.usage_price(meter=_meter()))
    rules = onboard(entity, plan, {plan.pk: make.pack("10", "1.00")})
    rows = [row(f"C{n}", 5, str(3 + n), time=f"10:00:{n:02}") for n in range(30)]
    more = [row(f"C{n}", 5, "9", time=f"11:00:{n:02}") for n in range(30)]
    report = read(entity, write(tmp_path / "u.csv", *rows, *more), rules)
    assert dict(report.outcomes) == {"charged": 60}
    spent = sum(c.credits for c in Charge.objects.filter(customer__legal_entity=entity))
    left = sum(b.available for b in CreditBalance.objects.filter(customer__legal_entity=entity))
    assert spent + left == 10 * report.packs
    assert 0 <= left < 300
    make.assert_numbers_are_gapless(entity)


@pytest.fixture
def prepaid(entity):
    """Two customers on a plan that buys packs of 250, and what reads their use."""
    plan = make.version(make.usage_price(meter=_meter()))
    for code in ("A", "B"):
        make.subscribe(make.customer(entity, code=code), plan, date(2026, 11, 1))
    return imports.Rules(packs={plan.pk: make.pack("250", "10.00")})


def test_a_pack_for_use_read_late_is_dated_when_the_series_allows(entity, prepaid, tmp_path):
    path = write(
        tmp_path / "u.csv",
        row("A", 20, "100", key="a"),
        row("B", 19, "100", key="b"),
        row("A", 21, "10", key="c"),
    )
    report = read(entity, path, prepaid)
    assert (report.rejected, dict(report.outcomes)) == (0, {"charged": 3})
    late = Invoice.objects.get(legal_entity=entity, customer__code="B")
    assert late.issued_on == date(2026, 11, 20)
    grant = CreditGrant.objects.get(customer=late.customer_id)
    assert grant.effective_at == datetime(2026, 11, 19, 10, tzinfo=UTC)
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


def test_whom_no_pack_can_be_sold_to_stops_nobody(entity, prepaid, tmp_path):
    bad = tmp_path / "bad.csv"
    who = Customer.objects.get(legal_entity=entity, code="A")
    topups.buy_packs(
        customer_id=who.pk,
        pack_id=next(iter(prepaid.packs.values())).pk,
        count=1,
        at=datetime(2026, 11, 1, 9, tzinfo=UTC),
        method="card",
        reference="first",
        key="first",
        actor="test",
    )
    Customer.objects.filter(pk=who.pk).update(street="")
    path = write(
        tmp_path / "u.csv",
        row("A", 5, "200", key="covered"),
        row("A", 5, "100", key="short", time="11:00:00"),
        row("B", 5, "100", key="other", time="11:30:00"),
        row("A", 5, "50", key="fits", time="12:00:00"),
        row("A", 5, "1", key="empty", time="13:00:00"),
    )
    report = read(entity, path, prepaid, rejected_path=bad)
    assert (report.rows, report.rejected, dict(report.outcomes)) == (5, 2, {"charged": 3})
    assert set(reasons(bad)) == {"short", "empty"}
    assert "the customer's street" in reasons(bad)["short"][0]
    make.assert_numbers_are_gapless(entity)
    Customer.objects.filter(pk=who.pk).update(street="7 Mill Lane")
    again = read(entity, path, prepaid)
    assert (again.known, again.packs, dict(again.outcomes)) == (3, 1, {"charged": 2})


def test_a_key_named_twice_buys_once(entity, prepaid, tmp_path):
    path = write(tmp_path / "u.csv", row("A", 5, "250", key="k"), row("A", 5, "250", key="k"))
    report = read(entity, path, prepaid)
    assert (report.packs, report.known, dict(report.outcomes)) == (1, 1, {"charged": 1})
