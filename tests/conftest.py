"""Every test run has a place and a PostgreSQL of its own.

The database is the embedded one, in a temporary cluster, started for the first test that asks for
it: migrated as the owner, cloned for each worker, and used as the application role, so a test
meets the same rights as the site. `tests/vectors` and the like start nothing.

Tests that commit are not cleaned up after: the guards refuse TRUNCATE. Each works on customers of
its own; one that needs an empty database asks for `fresh_database`.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

BASE_DIR = Path(__file__).resolve().parent.parent
PREPARE_SECONDS = 180
UI = BASE_DIR / "tests" / "ui"
WITHOUT_DJANGO = tuple(
    BASE_DIR / "tests" / name for name in ("rules", "vectors", "test_architecture.py")
)

# A loaded machine is no finding: examples are not timed.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")

# Chosen once by the process that was started by hand; xdist's workers inherit it.
if "KETER_TEST_RUN" not in os.environ:
    os.environ["KETER_TEST_RUN"] = str(
        Path(tempfile.gettempdir()) / f"keter-test-{secrets.token_hex(4)}"
    )
    os.environ["KETER_TEST_PID"] = str(os.getpid())
RUN_DIR = Path(os.environ["KETER_TEST_RUN"])
RUN_PID = int(os.environ["KETER_TEST_PID"])

# Nothing of the operator's own installation may leak into a test.
for _name in ("DATABASE_URL", "DATABASE_OWNER_URL", "SECRET_KEY", "DEBUG"):
    os.environ.pop(_name, None)
os.environ |= {
    "KETER_ENV_FILE": os.devnull,
    "KETER_STATE_DIR": str(RUN_DIR),
    "CELERY_BROKER_URL": "memory://",
    "EMAIL_URL": "memorymail://",
    "SECURE": "0",
}


def pytest_configure(config: pytest.Config) -> None:
    """Name the settings and load them, so that pytest-django sets Django up.

    A run of nothing but the rules and the house's plan goes without Django altogether.
    """
    places = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if all(any(place.is_relative_to(pure) for pure in WITHOUT_DJANGO) for place in places):
        return
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    from django.conf import settings

    if Path(settings.STATE_DIR) != RUN_DIR:
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE: the tests choose it themselves.")
    if os.getpid() == RUN_PID and not config.option.collectonly:
        _need_system_packages(
            browser=any(UI.is_relative_to(place) or place.is_relative_to(UI) for place in places)
        )


def _need_system_packages(*, browser: bool) -> None:
    """What pip does not give is installed by root on Debian; others read what to ask for."""
    from config.embedded.errors import ServiceError
    from config.embedded.system import ensure_system_packages

    try:
        ensure_system_packages(browser=browser, tell=print)
    except ServiceError as error:
        pytest.exit(str(error), returncode=3)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the database with the run, also after Ctrl-C."""
    if os.getpid() != RUN_PID:
        return
    from config.embedded.process import started_ticks

    with contextlib.suppress(OSError, ValueError):
        pid = int((RUN_DIR / "keeper.pid").read_text())
        os.kill(pid, 15)
        until = time.monotonic() + 40
        while started_ticks(pid) and time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)
    shutil.rmtree(RUN_DIR, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class ClusterOfTests:
    """The run's PostgreSQL, with a migrated template to clone."""

    state: Path

    def describe(self, role: str, name: str) -> dict[str, Any]:
        """Django's description of a connection."""
        return self._cluster().database(role, name)

    def connect(self, role: str, name: str) -> "psycopg.Connection[Any]":
        """A connection in autocommit."""
        return self._cluster().connect(role, name)

    def url(self, role: str, name: str) -> str:
        """The same connection as a URL, for the environment of a process under test."""
        from config.embedded.postgres import Cluster

        paths = Cluster(self.state).paths
        password = paths.passfile(role).read_text().strip().rpartition(":")[2]
        return f"postgres://{role}:{quote(password)}@/{paths.run}/{name}"

    def clone(self, name: str) -> None:
        """Make database `name` as a copy of the migrated template."""
        from config.databases import ensure_access
        from config.embedded.postgres import APPLICATION, DATABASE, OWNER, SUPERUSER

        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy")
        with self.connect(SUPERUSER, "postgres") as connection, self._one_at_a_time():
            connection.execute(
                statement.format(*(sql.Identifier(part) for part in (name, OWNER, DATABASE)))
            )
        with self.connect(SUPERUSER, name) as connection:
            ensure_access(connection, owner=OWNER, application=APPLICATION)

    def drop(self, name: str) -> None:
        """Remove a clone, ending what is still connected to it."""
        from config.embedded.postgres import SUPERUSER

        with self.connect(SUPERUSER, "postgres") as connection:
            connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with (self.state / "clone.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _cluster(self) -> Any:
        from config.embedded.postgres import Cluster

        return Cluster(self.state)


@pytest.fixture(scope="session")
def database_cluster() -> ClusterOfTests:
    """The run's PostgreSQL; whoever asks first has it started and migrated."""
    from config.embedded.process import started_ticks

    RUN_DIR.mkdir(mode=0o700, exist_ok=True)
    ready, failed = RUN_DIR / "ready", RUN_DIR / "failed"
    with (RUN_DIR / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (RUN_DIR / "keeper.pid").exists():
            with (RUN_DIR / "keeper.log").open("wb") as log:
                keeper = subprocess.Popen(
                    [
                        sys.executable,
                        str(Path(__file__).with_name("keeper.py")),
                        RUN_DIR,
                        str(RUN_PID),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            keeper.returncode = 0  # not ours to wait for: it outlives this worker
            (RUN_DIR / "keeper.pid").write_text(str(keeper.pid))
    until = time.monotonic() + PREPARE_SECONDS
    while not ready.exists():
        if failed.exists():
            pytest.exit(failed.read_text(), returncode=3)
        if not started_ticks(int((RUN_DIR / "keeper.pid").read_text())) and not ready.exists():
            pytest.exit((RUN_DIR / "keeper.log").read_text(), returncode=3)
        if time.monotonic() > until:
            pytest.exit(f"no test database after {PREPARE_SECONDS} s", returncode=3)
        time.sleep(0.02)
    return ClusterOfTests(RUN_DIR)


@pytest.fixture(scope="session")
def worker_database(database_cluster: ClusterOfTests) -> str:
    """Name of this worker's own database."""
    name = f"keter_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    database_cluster.clone(name)
    return name


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    database_cluster: ClusterOfTests,
    worker_database: str,
) -> None:
    """Point Django at this worker's clone, as the application role."""
    from django.conf import settings
    from django.db import connections
    from django.test import TransactionTestCase

    from config.embedded.postgres import APPLICATION

    default = connections.settings["default"]
    target = database_cluster.describe(APPLICATION, worker_database)
    default["OPTIONS"] |= target.pop("OPTIONS")
    default |= target
    # A test that commits leaves its rows: TRUNCATE is refused by the guards, as it must be.
    TransactionTestCase._fixture_teardown = lambda self: None
    # Argon2 takes its time on purpose; no test is about that unless it says so.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def fresh_database(database_cluster: ClusterOfTests, transactional_db: None) -> Iterator[str]:
    """A migrated, empty database for this test alone; the name of it."""
    from django.db import connections

    name = f"keter_{secrets.token_hex(6)}"
    database_cluster.clone(name)
    default = connections.settings["default"]
    before = default["NAME"]
    connections["default"].close()
    default["NAME"] = name
    try:
        yield name
    finally:
        connections["default"].close()
        default["NAME"] = before
        database_cluster.drop(name)


@pytest.fixture
def owner_connection(
    request: pytest.FixtureRequest, database_cluster: ClusterOfTests, worker_database: str
) -> Iterator["psycopg.Connection[Any]"]:
    """The database owner's connection (psycopg, autocommit), for tests marked `owner` only."""
    from django.db import connections

    from config.embedded.postgres import OWNER

    if request.node.get_closest_marker("owner") is None:
        pytest.fail("a test that acts as the database owner is marked `owner`")
    name = connections.settings["default"]["NAME"]
    with database_cluster.connect(OWNER, name or worker_database) as connection:
        yield connection


@pytest.fixture
def site_environment(
    database_cluster: ClusterOfTests, worker_database: str, django_db_setup: None
) -> Callable[..., dict[str, str]]:
    """Makes the environment of a `manage.py` process that works on this test's database.

    Call it with the variables to add. The process is the application role, as on a real site.
    """
    from django.db import connections

    from config.embedded.postgres import APPLICATION, OWNER

    def environment(**extra: str) -> dict[str, str]:
        name = connections.settings["default"]["NAME"]
        urls = {
            "DATABASE_URL": database_cluster.url(APPLICATION, name),
            "DATABASE_OWNER_URL": database_cluster.url(OWNER, name),
        }
        return os.environ | urls | extra

    return environment
