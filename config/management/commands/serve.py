"""Run the whole site: database, broker, web, worker and beat, until Ctrl-C."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from config.embedded.errors import ServiceError
from config.embedded.site import migrate_if_needed, options_from_settings
from config.embedded.supervisor import supervise
from config.embedded.system import ensure_system_packages


class Command(BaseCommand):
    """manage.py serve"""

    help = "Run the whole site: database, broker, web, worker and beat, until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen; the environment's HOST and PORT otherwise."""
        parser.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
        parser.add_argument("--port", type=int, help="port to listen on (default: PORT or 8000)")

    def handle(self, *args: Any, host: str | None, port: int | None, **options: Any) -> None:
        """Start everything, print the address, watch until a signal."""
        try:
            ensure_system_packages(tell=self.stdout.write)
            if not settings.DATABASE_IS_EMBEDDED:
                self._check_the_database_of_others()
            with supervise(options_from_settings(host=host, port=port)) as site:
                site.start_services()
                migrate_if_needed(site.say)
                site.start_site()
                site.say(f"Keter Billing is ready: {site.url}  (stop with Ctrl-C)")
                site.watch()
        except ServiceError as error:
            raise CommandError(str(error)) from None

    def _check_the_database_of_others(self) -> None:
        """Say now, before anything runs, what a page would otherwise trip over."""
        call_command("check", stdout=self.stdout)
        try:
            call_command("check", databases=["default"], stdout=self.stdout)
        except OperationalError as error:
            raise CommandError(f"The database of DATABASE_URL cannot be used: {error}") from None
