"""From Django's settings to the supervisor: what this installation runs."""

from collections.abc import Callable

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from config.databases import OWNER_ALIAS, open_owner_alias
from config.embedded.supervisor import Options


def options_from_settings(*, host: str | None = None, port: int | None = None) -> Options:
    """The supervisor's options, from the environment and, before it, the command line."""
    return Options(
        state=settings.STATE_PATHS,
        host=host or settings.SERVE_HOST,
        port=settings.SERVE_PORT if port is None else port,
        web_workers=settings.WEB_WORKERS,
        web_threads=settings.WEB_THREADS,
        worker_concurrency=settings.CELERY_WORKER_CONCURRENCY,
        embedded_database=settings.DATABASE_IS_EMBEDDED,
        embedded_broker=settings.BROKER_IS_EMBEDDED,
    )


def migrate_if_needed(tell: Callable[[str], None]) -> None:
    """Bring the embedded database's schema up to date; say so about a database of others.

    Leaves no connection open.
    """
    alias = open_owner_alias()
    if alias is None:
        return
    executor = MigrationExecutor(connections[alias])
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    connections[alias].close()
    if not waiting:
        return
    if not settings.DATABASE_IS_EMBEDDED:
        tell(f"{len(waiting)} migrations wait: run manage.py migrate.")
        return
    tell(f"Preparing the database ({len(waiting)} migrations)…")
    call_command("migrate", database=OWNER_ALIAS, verbosity=0, interactive=False)
    connections[alias].close()
