"""The two database roles: the owner migrates, the application runs.

The owner's connection is no alias of the site. It is opened here, by `migrate`, `db_roles` and the
test set-up only, so no request and no task can reach for it by mistake.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from psycopg import sql

OWNER_ALIAS = "owner"

# Any fixed number: two `db_roles` at once take turns.
ROLES_LOCK = 0x6B657465


@dataclass(frozen=True, slots=True)
class Login:
    """A role's name and, where we may set it, its password."""

    name: str
    password: str | None


def open_owner_alias() -> str | None:
    """Make the owner's connection known to Django for this process; its alias, or None.

    None means that the installation has no owner URL.
    """
    if settings.DATABASE_OWNER is None:
        return None
    if OWNER_ALIAS not in connections.settings:
        owner = dict(settings.DATABASE_OWNER)
        connections.settings = connections.configure_settings(
            {**connections.settings, OWNER_ALIAS: owner}
        )
    return OWNER_ALIAS


def connection_arguments(database: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """psycopg's arguments for one of Django's database descriptions."""
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host"}
    arguments: dict[str, Any] = {
        theirs: database[ours] for ours, theirs in names.items() if database.get(ours)
    }
    if database.get("PORT"):
        arguments["port"] = database["PORT"]
    return arguments | dict(database.get("OPTIONS", {})) | changes


def ensure_roles(connection: "psycopg.Connection[Any]", logins: Sequence[Login]) -> list[str]:
    """Make each role a plain login: it creates nothing, passes no guard, and owns what it is given.

    connection: in autocommit, as a role that may create roles. Running it again changes nothing;
    two at once take turns. Returns a line for each thing that was made or changed.
    Raises psycopg.errors.InsufficientPrivilege when the connection's role may not do it.
    """
    with _turn(connection):
        return [line for login in logins for line in _ensure_role(connection, login)]


def ensure_database(connection: "psycopg.Connection[Any]", *, name: str, owner: str) -> list[str]:
    """Make an empty database unless it exists; a line when it was made. See ensure_roles."""
    with _turn(connection):
        row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if row is not None:
            return []
        statement = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(owner)))
        return [f"database {name} made"]


def ensure_access(connection: "psycopg.Connection[Any]", *, owner: str, application: str) -> None:
    """Give the application role entry to the connection's database and nothing more.

    connection: in autocommit, on the site's own database, as its owner or a superuser.
    """
    database = connection.info.dbname
    names = {
        "database": sql.Identifier(database),
        "owner": sql.Identifier(owner),
        "application": sql.Identifier(application),
    }
    with _turn(connection):
        for statement in (
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {application}",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            "GRANT ALL ON SCHEMA public TO {owner}",
            "GRANT USAGE ON SCHEMA public TO {application}",
        ):
            connection.execute(sql.SQL(statement).format(**names))


def statements_for_an_administrator(*, owner: str, application: str, database: str) -> str:
    """The SQL that a database administrator runs when our own role may not."""
    name = sql.Identifier
    rows = [
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD '…' NOSUPERUSER NOBYPASSRLS").format(name(owner)),
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD '…' NOSUPERUSER NOBYPASSRLS").format(
            name(application)
        ),
        sql.SQL("CREATE DATABASE {} OWNER {}").format(name(database), name(owner)),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
            name(database), name(application)
        ),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name(application)),
    ]
    return "\n".join(f"  {row.as_string()};" for row in rows)


@contextlib.contextmanager
def _turn(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """One at a time in the whole cluster."""
    connection.execute("SELECT pg_advisory_lock(%s)", [ROLES_LOCK])
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [ROLES_LOCK])


def _ensure_role(connection: "psycopg.Connection[Any]", login: Login) -> list[str]:
    """Make one plain role, or bring an existing one back to plain."""
    plain = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION"
    row = connection.execute(
        "SELECT rolcanlogin AND NOT (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole"
        " OR rolreplication) FROM pg_roles WHERE rolname = %s",
        [login.name],
    ).fetchone()
    if row is None:
        statement = sql.SQL("CREATE ROLE {} " + plain).format(sql.Identifier(login.name))
        if login.password is not None:
            statement += sql.SQL(" PASSWORD {}").format(sql.Literal(login.password))
        connection.execute(statement)
        return [f"role {login.name} made"]
    if row[0]:
        return []
    connection.execute(sql.SQL("ALTER ROLE {} " + plain).format(sql.Identifier(login.name)))
    return [f"role {login.name} brought back to a plain login"]
