"""The credit ledger's doors: the only way credits move."""

from django.db import migrations

from billing.migrations._sql import run_sql


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_guards")]
    operations = [run_sql("0003_ledger_doors")]
