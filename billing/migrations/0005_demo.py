"""The door that removes demonstration data."""

from django.db import migrations

from billing.migrations._sql import run_sql


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_grants")]
    operations = [run_sql("0005_demo")]
