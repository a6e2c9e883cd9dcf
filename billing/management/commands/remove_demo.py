"""Take the demonstration data away: `manage.py remove_demo`; real data stay as they are."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import demo
from billing.models import LegalEntity

_WORDS = {
    "billing_legalentity": "sellers",
    "billing_customer": "customers",
    "billing_invoice": "invoices",
    "billing_payment": "payments",
    "billing_usageevent": "uses",
    "billing_creditgrant": "grants",
    "billing_invoicerun": "runs",
    "billing_plan": "plans",
}


class Command(BaseCommand):
    """Removes rows, files and logins of the demonstration, after asking."""

    help = "Remove the demonstration data and their files; real data are not touched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whether to ask first."""
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, yes: bool, **options: Any) -> None:
        """Ask, remove, and say what is gone."""
        sellers = list(LegalEntity.objects.filter(is_demo=True).values_list("name", flat=True))
        if not sellers:
            self.stdout.write("There are no demonstration data here; nothing to remove.")
            return
        if not yes:
            self._ask(sellers)
        removed = demo.remove(timezone.now())
        rows = dict(removed.rows)
        for table, word in _WORDS.items():
            if table in rows:
                self.stdout.write(f"{rows[table]:>8} {word}")
        self.stdout.write(
            f"{sum(count for _, count in removed.rows)} rows and {removed.files} files are gone; "
            f"{removed.people} demonstration people can no longer log in. Real data are as before."
        )

    def _ask(self, sellers: list[str]) -> None:
        self.stdout.write(
            f"This removes {', '.join(sellers)} with all customers, invoices and files."
            " It cannot be undone."
        )
        try:
            answer = input("Type remove to go on: ")
        except EOFError:
            raise CommandError("Nobody answered; nothing was removed. Use --yes.") from None
        if answer.strip() != "remove":
            raise CommandError("Nothing was removed.")
