"""Read a usage file: `manage.py import_usage FILE --mapping plain --entity CODE`."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import imports, real_month
from billing.errors import BillingError
from billing.management.commands._csv import write_csv
from billing.management.commands._progress import steps
from billing.models import LegalEntity
from billing.rules.usage_rows import MAPPINGS


class Command(BaseCommand):
    """Streams a CSV; refused rows go to a CSV with their reasons; reading again adds nothing."""

    help = "Read a CSV of usage: idempotent, refused rows are written to a CSV with their reasons."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The file, how it is read, and for whom."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--mapping", required=True, choices=sorted(MAPPINGS))
        parser.add_argument(
            "--entity", default="", help="code of the seller; the genai mapping brings its own"
        )
        parser.add_argument(
            "--as-of",
            type=datetime.fromisoformat,
            help="instant the file describes; what is under way is held 30 days from then",
        )
        parser.add_argument("--rejected", type=Path, help="CSV of rows that cannot be read")
        parser.add_argument("--list", type=Path, help="CSV of uses refused or not priced")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, then print what became of every row."""
        path: Path = options["file"]
        rejected = options["rejected"] or path.with_suffix(".rejected.csv").name
        as_of = options["as_of"] or timezone.now()
        rules = None
        try:
            if options["mapping"] == "genai" and not options["entity"]:
                setup = real_month.set_up(timezone.now())
                entity, rules = setup.entity, setup.rules()
            else:
                entity = LegalEntity.objects.get(code=options["entity"])
            with steps() as show:
                report = imports.import_usage(
                    path,
                    mapping=options["mapping"],
                    legal_entity_id=entity.pk,
                    as_of=as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC),
                    actor="import_usage",
                    rules=rules,
                    rejected_path=Path(rejected),
                    progress=lambda rows: show("rows", rows, 0),
                )
        except LegalEntity.DoesNotExist as error:
            known = ", ".join(LegalEntity.objects.values_list("code", flat=True)) or "none yet"
            raise CommandError(
                f"There is no seller “{options['entity']}”. Name one with --entity: {known}."
            ) from error
        except BillingError as refusal:
            raise CommandError(str(refusal)) from refusal
        if options["list"]:
            write_csv(options["list"], imports.LISTED_COLUMNS, imports.listed(entity.pk))
        self.stdout.write(f"{report.rows} rows read, {report.known} known already.")
        for outcome, count in sorted(report.outcomes.items()):
            self.stdout.write(f"  {count:>8} {outcome}")
        if report.rejected:
            self.stdout.write(f"  {report.rejected:>8} refused, listed in {rejected}")
        self.stdout.write(
            f"Credits paid by grants {report.credits}, beyond them {report.overage}, "
            f"packs bought {report.packs}."
        )
