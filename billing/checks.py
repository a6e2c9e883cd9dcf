"""Rules of the house that Django can verify before the first request."""

from collections.abc import Sequence
from ctypes.util import find_library
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

# What must be on for a committed invoice to be there after a power cut.
DURABLE = ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")


@register(Tags.security)
def the_application_has_a_role_of_its_own(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Without a second role a mistake in a page could rewrite history; the guards would let it."""
    if settings.DATABASE_IS_EMBEDDED:
        return []
    hint = (
        "DATABASE_URL is the application's role; DATABASE_OWNER_URL the owner's, used by migrate"
        " and db_roles only. Set both, then run: manage.py db_roles. It makes the second role, or"
        " prints the SQL for an administrator."
    )
    if settings.DATABASE_OWNER is None:
        return [Error("Only one database role is configured.", hint=hint, id="billing.E101")]
    if settings.DATABASE_OWNER["USER"] == settings.DATABASES[DEFAULT_DB_ALIAS]["USER"]:
        return [Error("The application runs as the database owner.", hint=hint, id="billing.E102")]
    return []


@register(Tags.security, deploy=True)
def the_secret_key_is_the_same_in_every_process(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """A key made up at start signs everybody out at each restart, and differs between processes."""
    if not settings.SECRET_KEY_IS_TEMPORARY:
        return []
    return [
        Error(
            "No SECRET_KEY is set.",
            hint="Set SECRET_KEY in the environment: 50 characters or more, known to nobody else.",
            id="billing.E103",
        )
    ]


@register(Tags.database)
def the_application_role_is_powerless(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The role that runs the site is no superuser, passes no policy and owns no table."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    statement = """
        SELECT rolsuper, rolbypassrls, rolcreaterole,
               EXISTS (SELECT FROM pg_class WHERE relowner = r.oid),
               EXISTS (SELECT FROM pg_database WHERE datdba = r.oid)
        FROM pg_roles AS r WHERE rolname = current_user
    """
    powers = (
        "is a superuser",
        "bypasses row security",
        "may create roles",
        "owns tables",
        "owns a database",
    )
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() or ()
    except OperationalError as error:
        return [Error(f"The database cannot be reached: {error}", id="billing.E104")]
    return [
        Error(
            f"The application's database role {power}.",
            hint="The guards do not hold such a role. Make a plain one: manage.py db_roles",
            id="billing.E105",
        )
        for power, has in zip(powers, row, strict=True)
        if has
    ]


@register(Tags.database)
def what_is_committed_survives(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The server writes what it promises, and notices when a disk changes it."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    found: list[CheckMessage] = []
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", [list(DURABLE)]
            )
            off = sorted(name for name, value in cursor.fetchall() if value in {"off", "local"})
    except OperationalError:
        return []  # said by the check above
    for name in off:
        if name == "data_checksums":
            hint = "Stop the server and run pg_checksums --enable: silent damage becomes loud."
            found.append(Warning(f"PostgreSQL runs without {name}.", hint=hint, id="billing.W106"))
        else:
            hint = f"Set {name} = on in postgresql.conf: a power cut may lose issued invoices."
            found.append(Error(f"PostgreSQL runs without {name}.", hint=hint, id="billing.E106"))
    return found


@register(Tags.compatibility)
def fonts_are_cut_down_fast(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Each PDF carries the letters it uses; fontTools takes ten times as long to cut them out."""
    if find_spec("uharfbuzz") is not None:
        return []
    hint = "It comes with config/requirements/run.lock: pip install uharfbuzz"
    if find_library("harfbuzz-subset"):
        message = "Fonts of documents are cut down by the system's HarfBuzz, not by uharfbuzz."
        return [Warning(message, hint=hint, id="billing.W120")]
    message = "Fonts of documents are cut down by fontTools, which is slow."
    severity = Warning if settings.DEBUG else Error
    return [severity(message, hint=hint, id="billing.E120")]
