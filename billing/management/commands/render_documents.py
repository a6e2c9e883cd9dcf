"""Draw all waiting documents now: `manage.py render_documents`; any number may run at once."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing import documents


class Command(BaseCommand):
    """Does what the worker does, until nothing waits."""

    help = "Draw the PDFs that wait. The worker does this by itself; this is for batches."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How many documents are claimed at once."""
        parser.add_argument("--limit", type=int, default=50)

    def handle(self, *args: Any, **options: Any) -> None:
        """Claim and draw until the queue is empty."""
        drawn = 0
        while count := documents.render_waiting(limit=options["limit"], at=timezone.now()):
            drawn += count
        self.stdout.write(f"{drawn} documents drawn.")
