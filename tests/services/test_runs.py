"""A run bills everybody once, whoever asks, however often, and whatever one customer does."""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import (
    DatabaseError,
    OperationalError,
    close_old_connections,
    connection,
    transaction,
)

from billing import invoicing, runs
from billing.errors import BillingError, IllegalTransition, MissingData, NotPermitted
from billing.models import (
    Approval,
    ApprovalDecision,
    AuditEvent,
    Customer,
    Invoice,
    InvoiceDocument,
    InvoiceLine,
    InvoiceRun,
    NumberSeries,
    RunItem,
    TaxRate,
)
from tests import factories as make
from tests.factories import NOVEMBER, NOW, later

pytestmark = pytest.mark.django_db


@pytest.fixture
def house():
    """A seller with a plan, a clerk and a finance admin."""
    entity = make.seller()
    return entity, make.version(), make.person("Clerk"), make.person("Admin")


def in_review(entity, author, **fields):
    run = make.plan_run(entity, author, **fields)
    runs.start(run.pk, at=NOW)
    make.work(run.pk)
    run.refresh_from_db()
    return run


# --- the ordinary way ------------------------------------------------------------------------


def test_a_run_goes_from_plan_to_numbers(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 5, plan)
    run = make.bill(entity, clerk, admin)
    assert (run.state, make.items(run)) == ("delivering", {"issued": 5})
    invoices = Invoice.objects.filter(run=run)
    assert {i.state for i in invoices} == {"issued"}
    assert {i.created_by_id for i in invoices} == {clerk.pk}
    assert {i.approved_by_id for i in invoices} == {admin.pk}
    assert {i.issued_on for i in invoices} == {date(2026, 12, 1)}
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


def test_a_run_is_done_when_its_documents_are(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 2, plan)
    run = make.bill(entity, clerk, admin)
    waiting = InvoiceDocument.objects.filter(invoice__run=run)
    assert waiting.count() == 2
    waiting.update(state="ready", storage_name="x", sha256="y", size=1)
    runs.advance(run.pk, at=later(5))
    run.refresh_from_db()
    assert (run.state, run.finished_at) == ("done", later(5))


def test_a_run_without_anything_to_bill_is_done_and_counted(house):
    entity, _, clerk, _ = house
    quiet = make.version(make.overage(), make.usage_price())
    make.customers_with_fee(entity, 3, quiet)
    run = in_review(entity, clerk)
    assert (run.state, make.items(run)) == ("done", {"nothing": 3})
    assert run.finished_at == NOW
    assert not NumberSeries.objects.filter(legal_entity=entity).exists()


def test_a_run_of_nobody_is_done(house):
    entity, _, clerk, _ = house
    assert in_review(entity, clerk).state == "done"


def test_a_run_of_one_plan_leaves_the_others(house):
    entity, plan, clerk, admin = house
    other = make.version(make.fee("99.00"))
    make.customers_with_fee(entity, 2, plan)
    (who,) = make.customers_with_fee(entity, 1, other)
    run = make.bill(entity, clerk, admin, plan_id=other.plan_id)
    assert make.items(run) == {"issued": 1}
    assert Invoice.objects.get(run=run).customer_id == who.pk


def test_a_customer_who_starts_after_the_period_is_not_listed(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 1, plan, since=date(2026, 12, 2))
    run = in_review(entity, clerk)
    assert make.items(run) == {}


def test_zero_is_not_issued_but_counted_beside_the_others(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 2, plan)
    make.customers_with_fee(entity, 1, make.version(make.fee("0.00")))
    run = make.bill(entity, clerk, admin)
    assert make.items(run) == {"issued": 2, "nothing": 1}


def test_small_chunks_make_the_same_invoices(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 7, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    make.work(run.pk, chunk=2)
    assert make.items(run) == {"drafted": 7}


# --- asking twice ----------------------------------------------------------------------------


def test_planning_again_gives_the_same_run(house):
    entity, _, clerk, admin = house
    assert make.plan_run(entity, clerk).pk == make.plan_run(entity, admin).pk
    assert AuditEvent.objects.filter(action="run planned", actor=admin).count() == 0


def test_starting_approving_and_issuing_again_add_nothing(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 3, plan)
    run = in_review(entity, clerk)
    runs.start(run.pk, at=NOW)
    assert RunItem.objects.filter(run=run).count() == 3
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    with pytest.raises(IllegalTransition):
        runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert Invoice.objects.filter(legal_entity=entity).count() == 3
    make.assert_numbers_are_gapless(entity)


def test_overlapping_runs_bill_each_day_once(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 4, plan)
    first = make.bill(entity, clerk, admin)
    second = make.bill(entity, clerk, admin, period_from=date(2026, 10, 1))
    third = make.bill(entity, clerk, admin, plan_id=plan.plan_id)
    assert make.items(first) == {"issued": 4}
    assert make.items(second) == make.items(third) == {"nothing": 4}
    assert Invoice.objects.filter(legal_entity=entity).count() == 4


def test_the_next_month_goes_on_where_this_one_ended(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 1, plan)
    make.bill(entity, clerk, admin)
    run = make.plan_run(
        entity,
        clerk,
        period_from=date(2026, 12, 1),
        period_to=date(2027, 1, 1),
        issue_on=date(2027, 1, 1),
    )
    runs.start(run.pk, at=datetime(2027, 1, 1, 9, tzinfo=UTC))
    make.work(run.pk)
    lines = InvoiceLine.objects.filter(invoice__run=run)
    assert [(x.supply_from, x.supply_to) for x in lines] == [(date(2027, 1, 1), date(2027, 2, 1))]


def test_a_period_that_is_not_over_is_not_billed(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 1, plan)
    run = make.plan_run(entity, clerk, period_from=date(2026, 12, 1), period_to=date(2027, 1, 1))
    with pytest.raises(MissingData, match="period ends on 2027-01-01"):
        runs.start(run.pk, at=NOW)
    assert make.items(run) == {}


def test_a_changed_tax_treatment_is_drafted_and_reviewed_again(house):
    entity, plan, clerk, admin = house
    (customer,) = make.customers_with_fee(entity, 1, plan)
    type(customer).objects.filter(pk=customer.pk).update(
        country="FR" if entity.country != "FR" else "DE", vat_id="X1", vat_id_valid_on=NOW.date()
    )
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    make.work(run.pk)
    drafted = Invoice.objects.get(run=run)
    assert drafted.tax == 0
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    type(customer).objects.filter(pk=customer.pk).update(
        country=entity.country, vat_id="", vat_id_valid_on=None
    )
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"parked": 1}
    assert runs.retry_failed(run.pk, actor_id=clerk.pk) == 1
    make.work(run.pk)
    again = Invoice.objects.get(run=run)
    assert (again.pk != drafted.pk, again.state) == (True, Invoice.State.DRAFT)
    assert again.tax > 0
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"issued": 1}
    make.assert_numbers_are_gapless(entity)


def test_an_empty_period_is_refused(house):
    entity, _, clerk, _ = house
    with pytest.raises(MissingData):
        make.plan_run(entity, clerk, period_to=NOVEMBER[0])


# --- one bad customer ------------------------------------------------------------------------


def poison(who: Customer, how: str) -> None:
    """Spoil a customer so that the queries (zone) or the rules (currency) fail on it."""
    if how == "zone":
        subscription = who.subscriptions.get()
        make.record(make.use(subscription, "2000", make.instant("2026-11-05")))
    fields = {"zone": {"time_zone": "Mars/Olympus"}, "currency": {"currency": "eur"}}[how]
    Customer.objects.filter(pk=who.pk).update(**fields)


@pytest.mark.parametrize("how", ["zone", "currency"])
@pytest.mark.parametrize("place", [0, 6, 12])
def test_a_poisoned_customer_is_set_aside_and_the_others_go_on(house, how, place):
    entity, plan, clerk, admin = house
    people = make.customers_with_fee(entity, 13, plan)
    poison(people[place], how)
    run = make.bill(entity, clerk, admin)
    assert make.items(run) == {"issued": 12, "parked": 1}
    item = RunItem.objects.get(run=run, state="parked")
    assert item.customer_id == people[place].pk
    assert item.reason
    make.assert_numbers_are_gapless(entity)


def test_every_customer_poisoned_still_ends(house):
    entity, plan, clerk, _ = house
    for who in make.customers_with_fee(entity, 5, plan):
        poison(who, "zone")
    run = in_review(entity, clerk)
    assert (run.state, make.items(run)) == ("done", {"parked": 5})


def test_missing_particulars_set_one_aside_at_issue_with_words(house):
    entity, plan, clerk, admin = house
    people = make.customers_with_fee(entity, 9, plan)
    Customer.objects.filter(pk=people[4].pk).update(street="")
    run = make.bill(entity, clerk, admin)
    assert make.items(run) == {"issued": 8, "parked": 1}
    assert "street" in RunItem.objects.get(run=run, state="parked").reason
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


def test_retry_takes_up_only_those_set_aside(house):
    entity, plan, clerk, admin = house
    people = make.customers_with_fee(entity, 6, plan)
    Customer.objects.filter(pk=people[2].pk).update(street="")
    run = make.bill(entity, clerk, admin)
    issued = set(Invoice.objects.filter(run=run, state="issued").values_list("number", flat=True))
    assert runs.retry_failed(run.pk, actor_id=clerk.pk) == 1
    make.work(run.pk)
    assert make.items(run) == {"issued": 5, "parked": 1}  # not mended yet
    Customer.objects.filter(pk=people[2].pk).update(street="9 New Street")
    assert runs.retry_failed(run.pk, actor_id=clerk.pk) == 1
    make.work(run.pk)
    assert make.items(run) == {"issued": 6}
    now = set(Invoice.objects.filter(run=run, state="issued").values_list("number", flat=True))
    assert issued < now
    assert len(now) == 6
    make.assert_numbers_are_gapless(entity)
    assert runs.retry_failed(run.pk, actor_id=clerk.pk) == 0


def test_what_was_set_aside_before_review_is_reviewed_again(house):
    entity, plan, clerk, admin = house
    people = make.customers_with_fee(entity, 3, plan)
    poison(people[1], "zone")
    run = make.bill(entity, clerk, admin)
    assert make.items(run) == {"issued": 2, "parked": 1}
    Customer.objects.filter(pk=people[1].pk).update(time_zone="UTC")
    runs.retry_failed(run.pk, actor_id=clerk.pk)
    make.work(run.pk)
    run.refresh_from_db()
    assert (run.state, make.items(run)) == ("in_review", {"issued": 2, "drafted": 1})
    with pytest.raises(NotPermitted):
        runs.approve(run.pk, by_id=clerk.pk, at=NOW)
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"issued": 3}
    assert (
        ApprovalDecision.objects.filter(approval__subject__startswith=f"run:{run.pk}:").count() == 2
    )
    make.assert_numbers_are_gapless(entity)


def test_a_draft_that_was_discarded_in_review_is_told_and_not_counted_as_issued(house):
    entity, plan, clerk, admin = house
    people = make.customers_with_fee(entity, 2, plan)
    run = in_review(entity, clerk)
    gone = Invoice.objects.get(run=run, customer=people[0])
    gone.billed_periods.all().delete()
    gone.lines.all().delete()
    gone.taxes.all().delete()
    gone.delete()
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"issued": 1, "nothing": 1}
    assert "discarded" in RunItem.objects.get(run=run, customer=people[0]).reason


# --- two people ------------------------------------------------------------------------------


def test_the_author_cannot_approve_the_run(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 1, plan)
    run = in_review(entity, clerk)
    with pytest.raises(NotPermitted):
        runs.approve(run.pk, by_id=clerk.pk, at=NOW)
    run.refresh_from_db()
    assert run.state == "in_review"
    assert not ApprovalDecision.objects.filter(approval__subject__startswith=f"run:{run.pk}:")


def test_the_database_keeps_maker_and_checker_apart(house):
    entity, _, clerk, _ = house
    run = make.plan_run(entity, clerk)
    with pytest.raises(DatabaseError, match="run_maker_is_not_checker"), transaction.atomic():
        InvoiceRun.objects.filter(pk=run.pk).update(approved_by=clerk)
    with pytest.raises(DatabaseError, match="run_issues_only_when_approved"), transaction.atomic():
        InvoiceRun.objects.filter(pk=run.pk).update(state="issuing")


def test_a_run_is_not_issued_before_it_is_approved(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 1, plan)
    run = in_review(entity, clerk)
    with pytest.raises(IllegalTransition):
        runs.issue(run.pk, actor_id=admin.pk)


def test_review_asks_for_one_approval(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 1, plan)
    run = in_review(entity, clerk)
    make.work(run.pk)
    request = Approval.objects.get(subject__startswith=f"run:{run.pk}:")
    assert request.requested_by_id == clerk.pk


# --- stop, resume, dates ---------------------------------------------------------------------


def test_a_stopped_run_does_nothing_until_it_is_resumed(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 6, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    runs.advance(run.pk, at=NOW, chunk=2)
    runs.stop(run.pk, actor_id=admin.pk, reason="prices look wrong")
    runs.stop(run.pk, actor_id=admin.pk, reason="again")
    assert not runs.advance(run.pk, at=NOW)
    assert run.pk not in runs.active_ids()
    assert make.items(run) == {"drafted": 2, "waiting": 4}
    runs.resume(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"drafted": 6}
    assert AuditEvent.objects.filter(subject=f"run:{run.pk}", action="run stopped").count() == 1


@pytest.mark.parametrize("step", ["planned", "drafting", "in_review", "approved", "issuing"])
def test_a_run_can_be_stopped_and_resumed_at_any_step(house, step):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 2, plan)
    run = make.plan_run(entity, clerk)

    def halt(at_step):
        if at_step == step:
            runs.stop(run.pk, actor_id=admin.pk, reason="wait")
            runs.resume(run.pk, actor_id=admin.pk)

    halt("planned")
    runs.start(run.pk, at=NOW)
    halt("drafting")
    make.work(run.pk)
    halt("in_review")
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    halt("approved")
    runs.issue(run.pk, actor_id=admin.pk)
    halt("issuing")
    make.work(run.pk)
    assert make.items(run) == {"issued": 2}


def test_retry_does_not_wake_a_stopped_run(house):
    entity, plan, clerk, admin = house
    (who, _) = make.customers_with_fee(entity, 2, plan)
    poison(who, "zone")
    run = in_review(entity, clerk)
    runs.stop(run.pk, actor_id=admin.pk, reason="wait")
    with pytest.raises(IllegalTransition):
        runs.retry_failed(run.pk, actor_id=clerk.pk)


def test_a_run_dated_ahead_waits_for_its_day(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 2, plan)
    run = make.bill(entity, clerk, admin, issue_on=date(2026, 12, 3))
    assert make.items(run) == {"drafted": 2}
    make.work(run.pk, at=NOW + timedelta(days=2))
    assert make.items(run) == {"issued": 2}
    assert set(Invoice.objects.filter(run=run).values_list("issued_on", flat=True)) == {
        date(2026, 12, 3)
    }


def test_a_run_whose_date_was_passed_takes_the_last_date_of_the_series(house):
    entity, plan, clerk, admin = house
    first = make.customers_with_fee(entity, 1, plan)
    make.bill(entity, clerk, admin)  # dated 1 December
    assert first
    make.customers_with_fee(entity, 2, plan)
    run = make.plan_run(entity, clerk, plan_id=plan.plan_id, issue_on=date(2026, 11, 30))
    runs.start(run.pk, at=NOW)
    make.work(run.pk)
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    assert make.items(run) == {"issued": 2, "nothing": 1}
    assert set(Invoice.objects.filter(run=run).values_list("issued_on", flat=True)) == {
        date(2026, 12, 1)
    }
    points = InvoiceLine.objects.filter(invoice__run=run).values_list("tax_point_on", flat=True)
    # November's fee was served before it was billed; December's point is the day of issue.
    assert set(points) == {date(2026, 11, 30), date(2026, 12, 1)}
    make.assert_numbers_are_gapless(entity)


def test_progress_and_totals_tell_where_a_run_is(house):
    entity, plan, clerk, admin = house
    make.customers_with_fee(entity, 4, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    runs.advance(run.pk, at=NOW, chunk=1)
    state = runs.progress(run.pk)
    assert (state.customers, state.waiting, state.drafted, state.share_done) == (4, 3, 1, 25)
    make.bill(entity, clerk, admin)
    assert runs.totals(run.pk) == [
        ("EUR", 4, Decimal("96.00"), Decimal("22.08"), Decimal("118.08"))
    ]


# --- leases ----------------------------------------------------------------------------------


def test_work_of_a_dead_worker_is_taken_up_when_its_lease_ends(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 4, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    claimed = runs._claim(run.pk, RunItem.State.WAITING, NOW, 3)  # and then it dies
    assert len(claimed) == 3
    make.work(run.pk, at=later(1))
    assert make.items(run) == {"waiting": 3, "drafted": 1}
    run.refresh_from_db()
    assert run.state == "drafting"
    make.work(run.pk, at=later(6))
    assert make.items(run) == {"drafted": 4}


def test_a_customer_that_kills_three_workers_is_set_aside(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 2, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    for n in range(3):
        assert runs._claim(run.pk, RunItem.State.WAITING, later(10 * n), 1)
        make_others_wait = RunItem.objects.filter(run=run, attempts=0)
        make_others_wait.update(lease_until=later(10 * n + 1000))
    RunItem.objects.filter(run=run, attempts=0).update(lease_until=None)
    make.work(run.pk, at=later(100))
    assert make.items(run) == {"drafted": 1, "parked": 1}
    assert "three times" in RunItem.objects.get(run=run, state="parked").reason


def test_a_worker_that_wakes_after_its_lease_changes_nothing(house):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 3, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    slept = runs._claim(run.pk, RunItem.State.WAITING, NOW, 3)
    make.work(run.pk, at=later(6))
    runs._do(run, slept, RunItem.State.WAITING, runs._draft, NOW)
    assert make.items(run) == {"drafted": 3}
    assert Invoice.objects.filter(run=run).count() == 3
    runs._park(slept[0], RunItem.State.WAITING, BillingError("too late"))
    assert make.items(run) == {"drafted": 3}


def test_a_database_that_goes_away_sets_nobody_aside(house, monkeypatch):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 3, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    with monkeypatch.context() as patch:
        patch.setattr(
            invoicing, "draft_many", lambda *a, **k: (_ for _ in ()).throw(OperationalError("gone"))
        )
        with pytest.raises(OperationalError):
            runs.advance(run.pk, at=NOW)
    assert make.items(run) == {"waiting": 3}
    make.work(run.pk, at=later(6))
    assert make.items(run) == {"drafted": 3}


def test_a_failure_of_the_books_names_no_secrets_to_the_operator(house, monkeypatch):
    entity, plan, clerk, _ = house
    make.customers_with_fee(entity, 1, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    monkeypatch.setattr(
        invoicing, "draft_many", lambda *a, **k: (_ for _ in ()).throw(ValueError("row 7: secret"))
    )
    make.work(run.pk)
    reason = RunItem.objects.get(run=run).reason
    assert "ValueError" in reason
    assert "secret" not in reason


# --- at the same time ------------------------------------------------------------------------


def together(*calls):
    """Run each call in a thread of its own; what they raised."""
    barrier, failures = threading.Barrier(len(calls)), []

    def body(call):
        try:
            barrier.wait()
            call()
        except Exception as failure:  # noqa: BLE001 - handed to the test
            failures.append(failure)
        finally:
            connection.close()
            close_old_connections()

    threads = [threading.Thread(target=body, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_two_overlapping_runs_at_once_bill_each_customer_once():
    entity, plan = make.seller(), make.version()
    clerk = make.person()
    make.customers_with_fee(entity, 60, plan)
    whole = make.plan_run(entity, clerk)
    part = make.plan_run(entity, clerk, plan_id=plan.plan_id)
    for run in (whole, part):
        runs.start(run.pk, at=NOW)
    failures = together(lambda: make.work(whole.pk, chunk=20), lambda: make.work(part.pk, chunk=15))
    assert not failures
    assert Invoice.objects.filter(legal_entity=entity).count() == 60
    assert RunItem.objects.filter(run__in=(whole, part), state="drafted").count() == 60
    assert RunItem.objects.filter(run__in=(whole, part), state="nothing").count() == 60


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_many_workers_share_a_run():
    entity, plan = make.seller(), make.version()
    clerk, admin = make.person(), make.person()
    make.customers_with_fee(entity, 60, plan)
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=NOW)
    assert not together(*[lambda: make.work(run.pk, chunk=7)] * 4)
    make.work(run.pk)
    runs.approve(run.pk, by_id=admin.pk, at=NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    assert not together(*[lambda: make.work(run.pk, chunk=7)] * 4)
    make.work(run.pk)
    assert make.items(run) == {"issued": 60}
    make.assert_numbers_are_gapless(entity)
    make.assert_books_balance(entity)


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_two_clicks_at_once_plan_start_and_issue_once():
    entity, plan = make.seller(), make.version()
    clerk, admin = make.person(), make.person()
    make.customers_with_fee(entity, 5, plan)
    assert not together(*[lambda: make.plan_run(entity, clerk)] * 3)
    run = InvoiceRun.objects.get(legal_entity=entity)
    assert not together(*[lambda: runs.start(run.pk, at=NOW)] * 3)
    assert RunItem.objects.filter(run=run).count() == 5
    make.work(run.pk)
    failures = together(*[lambda: runs.approve(run.pk, by_id=admin.pk, at=NOW)] * 3)
    assert [type(f) for f in failures] == [IllegalTransition] * 2
    assert not together(*[lambda: runs.issue(run.pk, actor_id=admin.pk)] * 3)
    make.work(run.pk)
    assert make.items(run) == {"issued": 5}
    assert ApprovalDecision.objects.filter(approval__subject=f"run:{run.pk}:1").count() == 1


def test_rates_are_not_needed_abroad():
    """A seller whose country has no rate yet bills only those it owes no VAT for."""
    entity = make.seller(country="HR", vat_id="HR12345678901")
    TaxRate.objects.filter(country="HR").delete()
    clerk, plan = make.person(), make.version(make.fee())
    home, abroad = make.customers_with_fee(entity, 2, plan)
    Customer.objects.filter(pk=abroad.pk).update(country="US")
    run = in_review(entity, clerk)
    assert RunItem.objects.get(run=run, customer=home).state == "parked"
    assert RunItem.objects.get(run=run, customer=abroad).state == "drafted"
