"""What the application role may do, table by table."""

from django.db import migrations

from billing.migrations._sql import run_sql


class Migration(migrations.Migration):
    # Every table that exists is granted here, so the tables of the libraries come first.
    dependencies = [
        ("billing", "0003_ledger_doors"),
        ("accounts", "__latest__"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("guardian", "0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more"),
        ("sessions", "0001_initial"),
    ]
    operations = [run_sql("0004_grants")]
