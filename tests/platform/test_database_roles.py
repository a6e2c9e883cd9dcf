"""Two database roles: who makes them, what they may not do, and what is said without them."""

import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from config.embedded.postgres import Cluster
from tests.platform.sites import manage

pytestmark = pytest.mark.xdist_group("services")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL of somebody else's, as far as the site is concerned."""
    cluster = Cluster(tmp_path_factory.mktemp("server") / "state", durable=False)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(cluster.paths.run, ignore_errors=True)


class Names:
    """Names and URLs of one installation on that server."""

    def __init__(self, cluster: Cluster, *, powers: str) -> None:
        mark = secrets.token_hex(4)
        self.cluster = cluster
        self.owner, self.application = f"owner-{mark}", f"app-{mark}"
        self.database = f"books-{mark}"
        self.password = "it's a pass:word/@"
        with cluster.connect() as connection:
            connection.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + powers).format(
                    psycopg.sql.Identifier(self.owner), psycopg.sql.Literal(self.password)
                )
            )

    def url(self, role: str) -> str:
        place = f"{self.cluster.paths.run}/{self.database}"
        return f"postgres://{role}:{quote(self.password, safe='')}@/{place}"

    def both(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.url(self.application),
            "DATABASE_OWNER_URL": self.url(self.owner),
        }

    def as_application(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self.cluster.paths.run),
            user=self.application,
            password=self.password,
            dbname=self.database,
        )


@pytest.fixture
def able(server: Cluster) -> Names:
    """An owner who may create roles and databases."""
    return Names(server, powers="CREATEROLE CREATEDB")


def test_roles_and_database_are_made_where_they_are_missing(able, tmp_path):
    done = manage(tmp_path, "db_roles", **able.both())
    assert done.returncode == 0, done.stderr
    assert f"role {able.application} made" in done.stdout
    with able.as_application() as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,"
            " has_schema_privilege('public', 'CREATE'), has_schema_privilege('public', 'USAGE')"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, False, False, False, True)


def test_running_it_again_changes_nothing(able, tmp_path):
    manage(tmp_path, "db_roles", **able.both())
    again = manage(tmp_path, "db_roles", **able.both())
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


def test_two_at_once_take_turns(able, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(manage, tmp_path, "db_roles", **able.both()) for _ in range(3)]
        done = [run.result() for run in runs]
    assert [run.returncode for run in done] == [0, 0, 0], [run.stderr for run in done]
    assert sum(f"role {able.application} made" in run.stdout for run in done) == 1


def test_the_application_role_is_given_no_table_by_db_roles(able, tmp_path):
    manage(tmp_path, "db_roles", **able.both())
    with able.as_application() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id int)")


def test_an_owner_who_may_not_make_roles_gets_the_sql_for_an_administrator(server, tmp_path):
    names = Names(server, powers="CREATEDB")
    done = manage(tmp_path, "db_roles", **names.both())
    assert done.returncode == 1
    assert f'CREATE ROLE "{names.application}" LOGIN' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_of_the_application_is_told(able, tmp_path):
    manage(tmp_path, "db_roles", **able.both())
    wrong = able.both() | {"DATABASE_URL": able.url(able.application).replace(":it", ":no")}
    done = manage(tmp_path, "db_roles", **wrong)
    assert done.returncode == 1
    assert "cannot log in" in done.stderr


def test_check_with_one_url_fails_and_says_how_to_make_the_second_role(able, tmp_path):
    done = manage(tmp_path, "check", DATABASE_URL=able.url(able.application))
    assert done.returncode == 1
    assert "billing.E101" in done.stderr
    assert "DATABASE_OWNER_URL" in done.stderr
    assert "manage.py db_roles" in done.stderr


def test_check_with_one_role_in_both_urls_fails(able, tmp_path):
    url = able.url(able.owner)
    done = manage(tmp_path, "check", DATABASE_URL=url, DATABASE_OWNER_URL=url)
    assert done.returncode == 1
    assert "billing.E102" in done.stderr


def test_serve_with_one_url_fails_before_anything_is_started(able, tmp_path):
    done = manage(tmp_path / "state", "serve", PORT="0", DATABASE_URL=able.url(able.application))
    assert done.returncode == 1
    assert "billing.E101" in done.stderr
    assert not (tmp_path / "state" / "valkey").exists()


def test_check_names_a_powerful_application_role_and_an_unsafe_server(able, tmp_path):
    manage(tmp_path, "db_roles", **able.both())
    with able.cluster.connect() as connection:
        connection.execute(f'ALTER ROLE "{able.application}" SUPERUSER')
    done = manage(tmp_path, "check", "--database=default", **able.both())
    assert done.returncode == 1
    assert "is a superuser" in done.stderr
    assert "runs without fsync" in done.stderr  # this server belongs to a test


def test_db_roles_brings_a_powerful_application_role_back(server, tmp_path):
    names = Names(server, powers="SUPERUSER")
    manage(tmp_path, "db_roles", **names.both())
    with server.connect() as connection:
        connection.execute(f'ALTER ROLE "{names.application}" CREATEROLE BYPASSRLS')
    done = manage(tmp_path, "db_roles", **names.both())
    assert "brought back" in done.stdout, done.stderr


def test_an_owner_url_alone_is_refused(tmp_path):
    done = manage(tmp_path, "check", DATABASE_OWNER_URL="postgres://owner@nowhere/keter")
    assert done.returncode != 0
    assert "set both" in done.stderr


def test_db_roles_of_the_embedded_database_is_safe_to_run(tmp_path):
    state: Path = tmp_path / "state"
    for _ in range(2):
        done = manage(state, "db_roles")
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stdout
