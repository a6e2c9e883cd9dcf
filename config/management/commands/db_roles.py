"""Make the two database roles, and the database, wherever they are missing."""

from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config import databases
from config.databases import Login, connection_arguments
from config.embedded.postgres import APPLICATION, DATABASE, OWNER, Cluster


class Command(BaseCommand):
    """manage.py db_roles"""

    help = (
        "Make the owner's and the application's database roles. Safe to run again. Rights on"
        " tables come with manage.py migrate."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing and say what was made."""
        made = self._embedded() if settings.DATABASE_IS_EMBEDDED else self._external()
        for line in made or ["Both roles are in place; nothing to do."]:
            self.stdout.write(line)

    def _embedded(self) -> list[str]:
        cluster = Cluster(settings.STATE_DIR)
        with cluster.connect() as connection:
            made = databases.ensure_roles(
                connection, [Login(role, None) for role in (OWNER, APPLICATION)]
            )
            made += databases.ensure_database(connection, name=DATABASE, owner=OWNER)
        with cluster.connect(name=DATABASE) as connection:
            databases.ensure_access(connection, owner=OWNER, application=APPLICATION)
        return made

    def _external(self) -> list[str]:
        owner, application = settings.DATABASE_OWNER, settings.DATABASES["default"]
        if owner is None:
            raise CommandError(
                "DATABASE_OWNER_URL is not set. It names the role that owns the database, for"
                " migrations only. An administrator makes both roles so:\n" + self._statements()
            )
        if owner["USER"] == application["USER"]:
            raise CommandError(
                "DATABASE_URL and DATABASE_OWNER_URL name the same role. The application needs one"
                " of its own, which owns nothing:\n" + self._statements()
            )
        try:
            made = self._make(owner, application)
        except psycopg.errors.InsufficientPrivilege as error:
            raise CommandError(
                f"The role {owner['USER']} may not do that ({error.diag.message_primary})."
                f" Ask an administrator to run:\n{self._statements()}"
            ) from None
        except psycopg.OperationalError as error:
            raise CommandError(f"The database cannot be reached as its owner: {error}") from None
        try:
            psycopg.connect(**connection_arguments(application)).close()
        except psycopg.OperationalError as error:
            raise CommandError(f"The application's role cannot log in: {error}") from None
        return made

    @staticmethod
    def _make(owner: dict[str, Any], application: dict[str, Any]) -> list[str]:
        database = application["NAME"]
        login = Login(application["USER"], application.get("PASSWORD") or None)
        # The database may not exist yet; "postgres" always does.
        with psycopg.connect(
            **connection_arguments(owner, dbname="postgres"), autocommit=True
        ) as connection:
            made = databases.ensure_roles(connection, [login])
            made += databases.ensure_database(connection, name=database, owner=owner["USER"])
        with psycopg.connect(
            **connection_arguments(owner, dbname=database), autocommit=True
        ) as connection:
            databases.ensure_access(connection, owner=owner["USER"], application=login.name)
        return made

    @staticmethod
    def _statements() -> str:
        owner = settings.DATABASE_OWNER_ROLE
        application = settings.DATABASE_APP_ROLE
        return databases.statements_for_an_administrator(
            owner=owner if owner and owner != application else OWNER,
            application=application if owner != application else APPLICATION,
            database=settings.DATABASES["default"]["NAME"],
        )
