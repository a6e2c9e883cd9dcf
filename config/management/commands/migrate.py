"""Migrate as the owner of the database; the application's role may not."""

from typing import Any

from django.core.management import call_command
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DEFAULT_DB_ALIAS

from config.databases import open_owner_alias


class Command(MigrateCommand):
    """Django's migrate, on the owner's connection."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Without an owner's URL the system check has already said what is missing."""
        if options["database"] == DEFAULT_DB_ALIAS:
            options["database"] = open_owner_alias() or DEFAULT_DB_ALIAS
        super().handle(*args, **options)
        changes_nothing = options["plan"] or options["check_unapplied"]
        if not changes_nothing and options["app_label"] is None:
            # As the application: the built-in roles are rows, and rows are its business.
            call_command("sync_roles", verbosity=options["verbosity"], stdout=self.stdout)
