"""From an empty clone to a served site: `manage.py quickstart`.

Starts what `serve` starts, fills the database with demonstration data, has the newest invoices
drawn, prints the address and who can log in, and serves until Ctrl-C. Running it again is safe.
"""

import contextlib
import logging
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from billing import demo, documents, tasks
from billing.demo.story import DRAWN_FIRST
from billing.errors import BillingError
from billing.management.commands._progress import steps
from billing.models import InvoiceDocument, LegalEntity
from config.databases import open_owner_alias
from config.embedded.errors import ServiceError
from config.embedded.site import migrate_if_needed, options_from_settings
from config.embedded.supervisor import Supervisor, supervise
from config.embedded.system import ensure_system_packages

PATIENCE_SECONDS: Final = 20.0  # without a new PDF, then we draw ourselves
POLL_SECONDS: Final = 0.25
FOLLOW_SECONDS: Final = 1.0


class Command(BaseCommand):
    """manage.py quickstart"""

    help = "Start everything with demonstration data, print address and logins, and serve."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen, and how far to go."""
        parser.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
        parser.add_argument("--port", type=int, help="port to listen on (default: PORT or 8000)")
        parser.add_argument("--no-serve", action="store_true", help="prepare everything, then stop")
        parser.add_argument(
            "--exit-after-ready", action="store_true", help="stop as soon as the site answers"
        )
        parser.add_argument(
            "--new-passwords",
            action="store_true",
            help="give the demonstration people new one-time passwords",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, serve, and say who can log in."""
        began = time.monotonic()
        try:
            ensure_system_packages(tell=self.stdout.write)
            wanted = options_from_settings(host=options["host"], port=options["port"])
            with supervise(wanted) as site:
                site.say("Starting database and broker…")
                site.start_services()
                migrate_if_needed(site.say)
                site.start_worker()
                logins = self._fill(site, new_passwords=options["new_passwords"])
                if not options["no_serve"]:
                    site.say("Starting the site…")
                    site.start_site()
                self._draw_newest(site)
                took = time.monotonic() - began
                self._tell(site, logins, took, is_served=not options["no_serve"])
                connection.close()
                if options["no_serve"] or options["exit_after_ready"]:
                    return
                threading.Thread(target=self._follow, args=(site,), daemon=True).start()
                site.watch()
        except (ServiceError, BillingError) as error:
            raise CommandError(str(error)) from None

    def _fill(self, site: Supervisor, *, new_passwords: bool) -> demo.Logins | None:
        """The demonstration, unless real data live here; None then."""
        if LegalEntity.objects.filter(is_demo=False).exists() and not demo.exists():
            site.say("This installation has data of its own, so no demonstration is added to it.")
            return None
        if not demo.exists():
            site.say("Making demonstration data: customers, use, payments and invoice runs…")
            _give_back_space()
        with steps() as show, _quiet_runs():
            return demo.create(timezone.now(), show, new_passwords=new_passwords)

    def _draw_newest(self, site: Supervisor) -> None:
        """Have the newest runs' PDFs drawn by the worker; return when they are ready."""
        newest = InvoiceDocument.objects.filter(
            state=InvoiceDocument.State.WAITING, priority__lte=DRAWN_FIRST
        )
        whole = left = newest.count()
        if not whole:
            return
        site.say(f"Drawing the {whole} invoices of the newest runs…")
        processes = max(site.options.worker_concurrency, 1)
        with contextlib.suppress(OSError):  # no broker: we draw ourselves below
            for _ in range(processes):
                tasks.render_waiting.delay(limit=-(-whole // processes))
        moved_at = time.monotonic()
        with steps() as show:
            while left:
                show("Newest PDFs", whole - left, whole)
                time.sleep(POLL_SECONDS)
                before, left = left, newest.count()
                if left < before:
                    moved_at = time.monotonic()
                elif time.monotonic() - moved_at > PATIENCE_SECONDS:
                    documents.render_waiting(limit=left, at=timezone.now())
                    moved_at = time.monotonic()
            show("Newest PDFs", whole, whole)

    def _tell(
        self, site: Supervisor, logins: demo.Logins | None, took: float, *, is_served: bool
    ) -> None:
        """The address and the logins, last of all."""
        if is_served:
            site.say(f"\nKeter Billing is ready after {took:.0f} s: {site.url}\n")
        else:
            site.say(f"\nEverything is prepared after {took:.0f} s. Start it: manage.py serve\n")
        if logins is None:
            return
        for login in logins.people:
            secret = login.password or "(password given before)"
            site.say(f"  {login.username:<14} {secret:<24} {login.name}, {login.duty}")
        if any(login.password for login in logins.people):
            site.say("\nThe passwords are shown this once.")
        site.say(
            "New passwords: manage.py quickstart --new-passwords, or, for one person while it runs,"
            " manage.py changepassword NAME.\n"
            "The demonstration is marked as such; manage.py remove_demo takes it away."
        )
        if is_served:
            site.say("Stop with Ctrl-C.")

    def _follow(self, site: Supervisor) -> None:
        """Show how the worker gets on with the older PDFs; runs beside the supervisor."""
        waiting = InvoiceDocument.objects.filter(state=InvoiceDocument.State.WAITING)
        # The services may stop under our feet: then there is nothing left to show.
        with contextlib.suppress(DatabaseError):
            whole = left = waiting.count()
            if not whole:
                return
            site.say(f"{whole} older PDFs are being drawn meanwhile.")
            with steps() as show:
                while left:
                    show("Older PDFs", whole - left, whole)
                    time.sleep(FOLLOW_SECONDS)
                    left = waiting.count()
                show("Older PDFs", whole, whole)
            site.say("All PDFs are ready.")
        connection.close()


def _give_back_space() -> None:
    """Shorten tables that hold removed rows only, after `remove_demo` for one.

    The planner takes a table of pages without rows for empty however much one transaction writes
    into it, and reads it whole for each row of another.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
            WHERE n_live_tup = 0 AND pg_relation_size(relid) > 0
            """
        )
        tables = ", ".join(name for (name,) in cursor.fetchall())
    alias = open_owner_alias()
    if tables and alias is not None:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {tables}")
        connections[alias].close()


@contextlib.contextmanager
def _quiet_runs() -> Iterator[None]:
    """The demonstration parks a customer on purpose; that is no news for the terminal."""
    log = logging.getLogger("billing.runs")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
