"""The two classes of tables whose rows the application may not rewrite (design: two books).

A foreign key with `db_constraint=False` is kept by one over more columns in the SQL of the guards
or doors, such as (customer, invoice): checking both would cost every row twice. `db_index=False`
says that another index begins with that column, or that nobody looks rows up by it.
"""

from django.db import models


class AppendOnly(models.Model):
    """Rows are written once. The database refuses UPDATE, DELETE and TRUNCATE on these tables.

    Their foreign keys are PROTECT, because a row here must outlive whatever it points at.
    """

    class Meta:
        abstract = True


class DoorsOnly(models.Model):
    """Rows are written by the ledger's SQL doors only; the application role may only read them."""

    class Meta:
        abstract = True
