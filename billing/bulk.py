"""Write many rows in one round trip: COPY, with ids taken from the table's own sequence."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models
from psycopg import sql
from psycopg.types.json import Jsonb

__all__ = ["Jsonb", "copy_rows", "next_ids"]


def next_ids(model: type[models.Model], count: int) -> list[int]:
    """Reserve `count` primary keys of a table, so that its children can name them in a COPY."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [model._meta.db_table, count],
        )
        return [row[0] for row in cursor.fetchall()]


def copy_rows(
    model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows by COPY. Triggers and constraints hold as for INSERT; any refusal undoes all."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(model._meta.db_table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    # Django wraps the errors of execute() only, and services catch Django's.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        _copy(cursor, statement, rows)


def _copy(cursor: Any, statement: sql.Composed, rows: Iterable[Sequence[Any]]) -> None:
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
