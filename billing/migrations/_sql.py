"""Load a numbered SQL file and its way back as one migration operation."""

from pathlib import Path

from django.conf import settings
from django.db.migrations import RunSQL

FOLDER = Path(__file__).resolve().parent.parent / "sql"


def run_sql(name: str) -> RunSQL:
    """Run `billing/sql/<name>.sql`, and `<name>.reverse.sql` on the way back.

    The files name the application role as {{app_role}}, because deployments may call it otherwise.
    """
    role = '"' + settings.DATABASE_APP_ROLE.replace('"', '""') + '"'

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8").replace("{{app_role}}", role)

    return RunSQL(read(FOLDER / f"{name}.sql"), read(FOLDER / f"{name}.reverse.sql"))
