"""Append-only rows, frozen invoices and prices, balanced entries, one customer per family."""

from django.db import migrations

from billing.migrations._sql import run_sql


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [run_sql("0002_guards")]
