"""`manage.py serve` with real processes: starting, stopping, and being killed."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.embedded import postgres
from config.embedded.paths import StatePaths
from config.embedded.postgres import OWNER, Cluster
from config.embedded.supervisor import Options, Supervisor
from tests.platform.sites import (
    BASE_DIR,
    Site,
    all_gone,
    answers,
    manage,
    running_site,
    taken_port,
    until,
)

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.fault, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated installation, made once and copied for each test."""
    state = tmp_path_factory.mktemp("seed") / "state"
    done = manage(state, "migrate", "--verbosity=0")
    assert done.returncode == 0, done.stderr
    return state


@pytest.fixture
def state(seed: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "state"
    shutil.copytree(seed, place, symlinks=True, ignore=shutil.ignore_patterns("run", "*.lock"))
    yield place
    shutil.rmtree(StatePaths.of(place).run, ignore_errors=True)


def write_down(state: Path, word: str) -> None:
    """Commit a row, as the owner, in a table the site does not know."""
    with Cluster(state).connect(OWNER, "keter") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notebook (word text)")
        connection.execute("INSERT INTO notebook VALUES (%s)", [word])


def words(state: Path) -> list[str]:
    with Cluster(state).connect(OWNER, "keter") as connection:
        return [row[0] for row in connection.execute("SELECT word FROM notebook ORDER BY word")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_nothing_behind(state, number):
    with running_site(state) as site:
        assert set(site.children()) == {"database", "broker", "web", "worker", "beat"}
        assert answers(site.url)
        everyone = site.everyone()
        assert site.stop(number) == 0
        assert all_gone(everyone)
        assert "Nothing is left running" in site.text


def test_two_hasty_signals_do_not_make_it_stop_badly(state):
    with running_site(state) as site:
        everyone = site.everyone()
        site.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert site.stop(signal.SIGINT) == 0
        assert all_gone(everyone)


def test_a_killed_supervisor_leaves_nothing_behind_and_loses_nothing(state):
    with running_site(state) as site:
        write_down(state, "committed")
        everyone = site.everyone()
        site.process.kill()
        site.process.wait()
        with running_site(state) as next_site:  # at once, while the old parts are still stopping
            assert all_gone(everyone)
            assert answers(next_site.url)
            assert words(state) == ["committed"]


def test_a_killed_database_comes_back_with_what_was_committed(state):
    with running_site(state) as site:
        write_down(state, "committed")
        before = site.children()["database"]
        os.kill(before, signal.SIGKILL)
        until(lambda: "The database is back" in site.text, 60)
        assert site.children()["database"] != before
        assert words(state) == ["committed"]
        until(lambda: answers(site.url), 30)


def test_every_other_part_that_is_killed_comes_back(state):
    with running_site(state) as site:
        for name in ("worker", "web", "beat", "broker"):
            before = site.children()[name]
            os.kill(before, signal.SIGKILL)
            until(lambda n=name, b=before: site.children().get(n, b) != b, 30)
        until(lambda: answers(site.url), 30)
        everyone = site.everyone()
        assert site.stop() == 0
        assert all_gone(everyone)


def test_the_pool_of_a_killed_worker_does_not_stay_behind(state):
    with running_site(state) as site:
        worker = site.children()["worker"]
        until(lambda: len(pool_of(worker)) == 2, 30)
        pool = pool_of(worker)
        os.kill(worker, signal.SIGKILL)
        until(lambda: all_gone(pool), 10)


def pool_of(worker: int) -> dict[int, str]:
    from config.embedded.process import started_ticks
    from tests.platform.sites import children_of

    return {pid: ticks for pid in children_of(worker) if (ticks := started_ticks(pid))}


def test_a_second_serve_says_that_the_first_one_runs_and_where(state):
    with running_site(state) as site:
        second = manage(state, "serve", PORT="0")
        assert second.returncode == 1
        assert "already running here" in second.stderr
        assert site.url in second.stderr
        assert str(site.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert answers(site.url)


def test_a_used_port_is_a_plain_sentence_and_nothing_is_started(tmp_path):
    with taken_port() as port:
        done = manage(tmp_path / "state", "serve", PORT=str(port))
    assert done.returncode == 1
    assert f"Port {port}" in done.stderr
    assert "Choose another one" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state" / "postgres").exists()


def test_a_deep_folder_gets_short_sockets_elsewhere(seed, tmp_path):
    state = tmp_path / ("d" * 100) / ("e" * 100) / "state"
    shutil.copytree(seed, state, symlinks=True, ignore=shutil.ignore_patterns("run", "*.lock"))
    run = StatePaths.of(state).run
    try:
        with running_site(state) as site:
            assert answers(site.url)
            assert not run.is_relative_to(state)
            assert stat.S_IMODE(run.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(run, ignore_errors=True)


def test_a_first_start_in_an_empty_folder_prepares_itself(tmp_path):
    with running_site(tmp_path / "state") as site:
        assert answers(site.url)
        assert "Preparing the database" in site.text


def test_no_existing_directory_changes_its_mode(state):
    places = [BASE_DIR, *BASE_DIR.parents, *state.parents, Path("/tmp"), Path("/dev/shm")]
    before = {place: place.stat().st_mode for place in places}
    users = Path("/etc/passwd").read_bytes()
    with running_site(state):
        pass
    assert {place: place.stat().st_mode for place in places} == before
    assert Path("/etc/passwd").read_bytes() == users


def test_a_command_borrows_the_running_database(state):
    with running_site(state) as site:
        database = site.children()["database"]
        assert manage(state, "migrate", "--check").returncode == 0
        assert site.children()["database"] == database


def test_a_command_alone_starts_the_database_and_stops_it(state):
    assert manage(state, "migrate", "--check").returncode == 0
    assert Cluster(state).pid is None


def test_the_parts_of_the_site_do_not_know_the_owner(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_OWNER_URL", "postgres://owner:secret@db/keter")
    site = Supervisor(Options(StatePaths.of(tmp_path)))
    assert "DATABASE_OWNER_URL" not in site._environment()


def test_the_database_listens_on_no_network(state):
    with running_site(state), Cluster(state).connect() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        shown = [
            connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")
        ]
        assert shown == ["on"] * 4


@pytest.mark.skipif(os.getuid() != 0, reason="root puts itself off")
@pytest.mark.parametrize("identity", postgres.IDENTITIES_OF_ROOT)
def test_root_runs_the_database_as_nobody_in_every_way_the_kernel_allows(
    tmp_path, monkeypatch, identity
):
    if identity == "userns" and not may_make_user_namespaces():
        pytest.skip("this kernel gives no user namespaces")
    state = tmp_path / "state"
    monkeypatch.setattr(postgres, "IDENTITIES_OF_ROOT", (identity,))
    cluster = Cluster(state, durable=False)
    try:
        cluster.start()
        with cluster.connect() as connection:
            connection.execute("SELECT 1")
        status = Path(f"/proc/{cluster.pid}/status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        nobody = str(pwd.getpwnam("nobody").pw_uid)
        assert set(uids) == ({"0"} if identity == "userns" else {nobody})
    finally:
        cluster.stop()
        shutil.rmtree(cluster.paths.run, ignore_errors=True)


def may_make_user_namespaces() -> bool:
    tie = [sys.executable, "-I", "-S", str(postgres.LAUNCHER), *postgres._tie("userns")]
    return subprocess.run([*tie, sys.executable, "-c", ""], check=False).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a normal user")
def test_a_normal_user_runs_the_site_too():
    """As `nobody`, who keeps the right to enter this Python's folder, which may be root's own."""
    user = pwd.getpwnam("nobody").pw_uid
    place = Path(tempfile.mkdtemp(prefix="keter-home-"))
    os.chown(place, user, user)
    site = Site(place / "state", identity="nobody")
    try:
        site.wait_ready()
        assert answers(site.url)
        everyone = site.everyone()
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in everyone} == {user}
        assert {path.stat().st_uid for path in (place / "state").iterdir()} == {user}
        assert site.stop() == 0
        assert all_gone(everyone)
    finally:
        site.process.kill()
        site.process.wait()
        shutil.rmtree(place, ignore_errors=True)


def test_a_stale_pid_file_of_a_reused_number_does_not_stop_the_start(state):
    cluster = Cluster(state)
    cluster.paths.cluster.joinpath("postmaster.pid").write_text(
        f"{os.getpid()}\n{cluster.paths.cluster}\n0\n5432\n{cluster.paths.run}\n\n0\nready   \n"
    )
    try:
        cluster.start()
        with cluster.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        cluster.stop()


def test_passwords_are_asked_for_even_on_the_socket(state):
    cluster = Cluster(state)
    try:
        cluster.start()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=str(cluster.paths.run), user="postgres", dbname="keter", passfile=os.devnull
            )
    finally:
        cluster.stop()
