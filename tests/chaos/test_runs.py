"""Whatever dies, and wherever: everybody is billed once, numbers have no gap, books balance."""

import os
import random
import signal
import threading
import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from billing import failpoints, invoicing, runs, tasks
from billing.models import (
    BilledPeriod,
    Invoice,
    InvoiceDocument,
    InvoiceRun,
    JournalEntry,
    NumberSeries,
    RunItem,
)
from tests import factories as make

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("services")]
KILLS = int(os.environ.get("CHAOS_KILLS", "6"))


class House:
    """A seller with customers, and its run in the wanted step."""

    def __init__(self, customers, step="drafting"):
        self.entity, self.plan = make.seller(), make.version()
        self.clerk, self.admin = make.person(), make.person()
        self.people = make.customers_with_fee(self.entity, customers, self.plan)
        self.run = make.plan_run(self.entity, self.clerk)
        runs.start(self.run.pk, at=make.NOW)
        if step == "issuing":
            make.work(self.run.pk, at=timezone.now())
            self.approve()

    def approve(self):
        now = timezone.now() + timedelta(days=30)
        runs.advance(self.run.pk, at=now)
        runs.approve(self.run.pk, by_id=self.admin.pk, at=now)
        runs.issue(self.run.pk, actor_id=self.admin.pk)

    def finish(self):
        """Go on as the next worker does when the leases have ended, to the last number."""
        now = timezone.now() + timedelta(hours=1)
        make.work(self.run.pk, at=now)
        self.run.refresh_from_db()
        if self.run.state == InvoiceRun.State.IN_REVIEW:
            self.approve()
        make.work(self.run.pk, at=now)

    def assert_all_billed_once(self):
        count = len(self.people)
        assert make.items(self.run) == {"issued": count}
        invoices = Invoice.objects.filter(legal_entity=self.entity)
        assert invoices.count() == count
        assert set(invoices.values_list("state", flat=True)) == {"issued"}
        assert len(set(invoices.values_list("customer_id", flat=True))) == count
        assert InvoiceDocument.objects.filter(invoice__in=invoices).count() == count
        assert BilledPeriod.objects.filter(invoice__in=invoices).count() == 2 * count
        entries = JournalEntry.objects.filter(invoice__in=invoices, recipe="invoice_issued")
        assert entries.count() == count
        assert sum(i.gross for i in invoices) == count * Decimal("29.52")
        make.assert_numbers_are_gapless(self.entity)
        make.assert_books_balance(self.entity)


@pytest.fixture(autouse=True)
def _today(monkeypatch):
    """Runs are dated today: the workers have the real clock."""
    monkeypatch.setattr(make, "plan_run", _plan_run)


def _plan_run(entity, author, **fields):
    return runs.plan(
        **{
            "legal_entity_id": entity.pk,
            "period_from": make.NOVEMBER[0],
            "period_to": make.NOVEMBER[1],
            "author_id": author.pk,
        }
        | fields
    )


@pytest.mark.parametrize(
    ("name", "step", "done"),
    [
        ("run.after_claim", "drafting", 0),
        ("draft.before_commit", "drafting", 0),
        ("run.after_chunk", "drafting", 4),
        ("draft.before_commit@2", "drafting", 4),
        ("run.after_claim", "issuing", 0),
        ("issue.before_numbers", "issuing", 0),
        ("issue.after_number", "issuing", 0),
        ("issue.before_commit", "issuing", 0),
        ("issue.before_commit@2", "issuing", 4),
        ("run.after_chunk", "issuing", 4),
    ],
)
def test_a_worker_killed_at_a_point_leaves_nothing_half_done(spawn, name, step, done):
    house = House(9, step)
    worker = spawn(house.run.pk, 4, FAILPOINT=name)
    assert worker.wait(60) == -signal.SIGKILL
    issued = Invoice.objects.filter(legal_entity=house.entity, state="issued").count()
    if step == "issuing":
        assert issued == done
        make.assert_numbers_are_gapless(house.entity)
        given = NumberSeries.objects.filter(legal_entity=house.entity)
        assert sum(series.next_number - 1 for series in given) == done
    else:
        assert Invoice.objects.filter(legal_entity=house.entity).count() == done
    house.finish()
    house.assert_all_billed_once()


def test_every_point_of_a_run_is_killed_at():
    """A new fail point in runs or invoicing needs its case above."""
    here = {case.args[0] if hasattr(case, "args") else case[0].partition("@")[0] for case in CASES}
    found = set()
    for module in (runs, invoicing):
        with open(module.__file__) as source:
            for line in source:
                if 'failpoint("' in line:
                    found.add(line.split('"')[1])
    assert found == here


CASES = test_a_worker_killed_at_a_point_leaves_nothing_half_done.pytestmark[-1].args[1]


def test_a_disk_that_is_full_once_costs_a_second_try(transactional_db, settings, monkeypatch):
    settings.FAILPOINTS = True
    failpoints._passed.clear()
    monkeypatch.setenv("FAILPOINT", "issue.after_number=full@1")
    house = House(7, "issuing")
    house.finish()
    house.assert_all_billed_once()


def test_a_disk_that_stays_full_sets_everybody_aside_and_retry_mends_it(
    transactional_db, settings, monkeypatch
):
    settings.FAILPOINTS = True
    monkeypatch.setenv("FAILPOINT", "issue.after_number=full")
    house = House(5, "issuing")
    house.finish()
    assert make.items(house.run) == {"parked": 5}
    make.assert_numbers_are_gapless(house.entity)
    monkeypatch.delenv("FAILPOINT")
    runs.retry_failed(house.run.pk, actor_id=house.clerk.pk)
    house.finish()
    house.assert_all_billed_once()


def test_workers_killed_at_random_bill_everybody_once(spawn):
    house = House(120)
    dice = random.Random(2026)
    for _ in range(KILLS):
        worker = spawn(house.run.pk, dice.choice((1, 7, 20)))
        assert worker.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0, 0.4))
        worker.kill()
        worker.wait(10)
        make.assert_numbers_are_gapless(house.entity)
        if runs.progress(house.run.pk).state == "in_review":
            house.approve()
    house.finish()
    house.assert_all_billed_once()


def test_connections_cut_in_the_middle_set_nobody_aside(spawn):
    """What an immediate stop of PostgreSQL looks like to a worker, again and again."""
    house = House(60)
    for _ in range(2):  # draft, then issue
        worker = spawn(house.run.pk, 3)
        worker.stdout.readline()
        until = time.monotonic() + 50
        while worker.poll() is None and time.monotonic() < until:
            time.sleep(0.15)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND usename = current_user"
                )
        assert worker.wait(30) == 0
        parked = RunItem.objects.filter(run=house.run, state="parked")
        assert list(parked.values_list("reason", flat=True)) == []
        if runs.progress(house.run.pk).state == "in_review":
            house.approve()
    house.finish()
    house.assert_all_billed_once()


def test_beat_and_button_and_a_second_run_at_once_over_500_customers(spawn):
    house = House(500)
    other = make.plan_run(house.entity, house.clerk, plan_id=house.plan.plan_id)
    runs.start(other.pk, at=make.NOW)
    workers = [spawn(house.run.pk, 60), spawn(house.run.pk, 45), spawn(other.pk, 70)]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    assert Invoice.objects.filter(legal_entity=house.entity).count() == 500
    both = RunItem.objects.filter(run__in=(house.run, other))
    assert both.filter(state="drafted").count() == 500
    assert both.filter(state="nothing").count() == 500
    pending = [run for run in (house.run, other) if runs.progress(run.pk).state == "in_review"]
    for run in pending:
        runs.approve(run.pk, by_id=house.admin.pk, at=timezone.now())
        runs.issue(run.pk, actor_id=house.admin.pk)
    workers = [spawn(run.pk, 40) for run in (*pending, house.run)]
    assert {worker.wait(120) for worker in workers} == {0}
    issued = Invoice.objects.filter(legal_entity=house.entity, state="issued")
    assert issued.count() == 500
    assert len(set(issued.values_list("customer_id", flat=True))) == 500
    make.assert_numbers_are_gapless(house.entity)
    make.assert_books_balance(house.entity)


def test_one_message_delivered_ten_times_works_once(transactional_db):
    house = House(40)
    barrier, failures = threading.Barrier(10), []

    def deliver():
        barrier.wait()
        try:
            tasks.advance_run(house.run.pk)
        except Exception as failure:  # noqa: BLE001 - handed to the test
            failures.append(failure)
        finally:
            connection.close()

    for _ in range(2):  # draft, then issue
        threads = [threading.Thread(target=deliver) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        tasks.advance_run(house.run.pk)
        if runs.progress(house.run.pk).state == "in_review":
            house.approve()
    house.assert_all_billed_once()


def test_eight_issuers_with_rollbacks_leave_no_gap_and_no_duplicate(transactional_db):
    house = House(160)
    make.work(house.run.pk, at=timezone.now())
    ids = list(Invoice.objects.filter(run=house.run).values_list("pk", flat=True))
    invoicing.approve_many(ids, approved_by_id=house.admin.pk)
    failures = []

    def issue(mine, seed):
        dice = random.Random(seed)
        try:
            while mine:
                pk = mine.pop()
                try:
                    with transaction.atomic():
                        invoicing.issue_many([pk], at=timezone.now())
                        if dice.random() < 0.2:
                            mine.append(pk)
                            transaction.set_rollback(True)
                except OperationalError:
                    mine.append(pk)
        except Exception as failure:  # noqa: BLE001 - handed to the test
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=issue, args=(ids[n::8], n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert Invoice.objects.filter(run=house.run, state="issued").count() == 160
    make.assert_numbers_are_gapless(house.entity)
    make.assert_books_balance(house.entity)
