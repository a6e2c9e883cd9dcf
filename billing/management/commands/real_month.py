"""Bill a real month: `manage.py real_month FILE` imports, runs, issues, draws and reconciles."""

import csv
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import User
from billing import imports, real_month, reconciliation, runs
from billing.errors import BillingError
from billing.management.commands._csv import write_csv
from billing.management.commands._progress import steps
from billing.models import InvoiceDocument

WORKERS = 2


class Command(BaseCommand):
    """The main job on real input, from usage to PDF, with its reconciliation printed."""

    help = "Import the public trace, bill November and December 2024, draw the PDFs, reconcile."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The trace, and how much of it."""
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--customers", type=int, help="only the first N customer numbers of the file"
        )
        parser.add_argument("--no-pdf", action="store_true", help="leave the PDFs to the worker")
        parser.add_argument("--rejected", type=Path, help="CSV of refused rows")
        parser.add_argument("--report", type=Path, help="CSV with one row for each customer")
        parser.add_argument("--list", type=Path, help="CSV of uses refused or not priced")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run everything; exit 1 when two sums that must agree do not."""
        setup = real_month.set_up(timezone.now())
        only = _first_customers(options["file"], options["customers"])
        with steps() as show:
            try:
                months = real_month.bill(
                    options["file"],
                    setup=setup,
                    author_id=_person("clerk").pk,
                    approver_id=_person("finance").pk,
                    stopwatch=lambda: Decimal(str(round(time.perf_counter(), 3))),
                    clock=timezone.now,
                    customers=only,
                    rejected_path=options["rejected"],
                    progress=show,
                )
            except BillingError as refusal:
                raise CommandError(str(refusal)) from refusal
        for month in months:
            self._print_month(month)
        if not options["no_pdf"]:
            self._draw(setup.entity.pk)
        for month in months:
            runs.advance(month.run.pk, at=timezone.now())
        if options["list"]:
            write_csv(options["list"], imports.LISTED_COLUMNS, imports.listed(setup.entity.pk))
        self._reconcile(setup.entity.pk, options["report"])

    def _print_month(self, month: real_month.Month) -> None:
        report = month.report
        outcomes = ", ".join(f"{n} {name}" for name, n in sorted(report.outcomes.items()))
        self.stdout.write(
            f"{month.run}: {sum(report.outcomes.values())} new rows ({outcomes or 'none'}), "
            f"{report.known} known, {report.rejected} refused to read, {report.packs} packs "
            f"bought, in {month.import_seconds} s."
        )
        state = runs.progress(month.run.pk)
        worked = bool(report.outcomes) and month.run_seconds
        speed = f"{state.issued / month.run_seconds:.0f}/s" if worked else "already issued"
        self.stdout.write(
            f"  {state.issued} invoices of {state.customers} customers, {state.nothing} with "
            f"nothing to bill, {state.parked} set aside, in {month.run_seconds} s ({speed})."
        )
        for currency, count, net, tax, gross in runs.totals(month.run.pk):
            self.stdout.write(f"  {currency} {net} net + {tax} VAT = {gross} on {count} invoices")

    def _draw(self, entity_id: int) -> None:
        """Draw what waits with worker processes, so that the figure is that of the worker."""
        waiting = InvoiceDocument.objects.filter(state="waiting").count()
        began = time.perf_counter()
        command = [sys.executable, "manage.py", "render_documents"]
        workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(WORKERS)]
        codes = [worker.wait() for worker in workers]
        seconds = time.perf_counter() - began
        ready = InvoiceDocument.objects.filter(
            state="ready", customer__legal_entity_id=entity_id
        ).count()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.stdout.write(
            f"{waiting} PDFs drawn in {seconds:.1f} s ({waiting / seconds:.1f}/s by {WORKERS} "
            f"processes), {ready} ready; memory peak {own} MB here, {peak} MB a drawing process."
        )
        if any(codes):
            raise CommandError("A drawing process failed; its output is above.")

    def _reconcile(self, entity_id: int, report: Path | None) -> None:
        rows = reconciliation.customer_rows(entity_id)
        billed = Counter(
            "invoiced by a run" if row[7] else "packs only" if row[6] else "nothing to bill"
            for row in rows
        )
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(billed.items()))
        self.stdout.write(f"Customers, each once: {len(rows)} ({kinds}).")
        if report is not None:
            write_csv(report, reconciliation.CUSTOMER_COLUMNS, rows)
        checks = reconciliation.reconcile(entity_id)
        for check in checks:
            mark = "ok " if check.holds else "BAD"
            self.stdout.write(f"  {mark} {check.name}: {check.left:f} = {check.right:f}")
        waiting = reconciliation.not_invoiced(entity_id)
        self.stdout.write(f"  {'BAD' if waiting else 'ok '} not invoiced yet: {waiting:f} credits")
        if waiting or not all(check.holds for check in checks):
            raise CommandError("The books do not agree; the lines marked BAD name the sums.")


def _first_customers(path: Path, count: int | None) -> frozenset[str] | None:
    """The first `count` customer numbers in file order; None for all."""
    if count is None:
        return None
    found: dict[str, None] = {}
    with path.open(encoding="utf-8-sig", newline="") as source:
        for row in csv.DictReader(source):
            if len(found) == count:
                break
            found.setdefault(row["groupId"])
    return frozenset(found)


def _person(username: str) -> User:
    """A person of the house, made without a password when missing."""
    user = User.objects.filter(username=username).first()
    if user is None:
        user = User(username=username, is_staff=True)
        user.set_unusable_password()
        user.save()
    return user
