"""Parts that will not live, commands that share a database, and test runs that are cut short."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.embedded import supervisor
from config.embedded.errors import ServiceError
from config.embedded.files import make_socket_directory
from config.embedded.paths import StatePaths
from config.embedded.postgres import Cluster
from config.embedded.process import Child, started_ticks
from config.embedded.supervisor import Options, Part, Supervisor
from tests.platform.sites import BASE_DIR, command_of, manage, plain_environment, until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(240)]


def test_a_part_that_keeps_stopping_ends_the_site_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "FAILURES_MAX", 2)
    options = Options(StatePaths.of(tmp_path), port=0, embedded_database=False)
    said: list[str] = []
    with Supervisor(options, tell=said.append) as site:
        part = Part(Child("web", [sys.executable, "-c", "raise SystemExit(3)"]))
        site.parts["web"] = part
        part.child.start()
        with pytest.raises(ServiceError, match=r"web keeps stopping \(exit code 3\)"):
            site.watch()
    assert said == ["The web stopped (exit code 3); starting it again."] * 2


def test_a_part_that_does_not_stop_is_killed_with_its_group(tmp_path):
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
        "print(helper.pid, flush=True); time.sleep(99)"
    )
    lines: list[str] = []
    child = Child(
        "worker",
        [sys.executable, "-c", stubborn],
        grace=0.3,
        on_line=lambda name, text: lines.append(text),
    )
    child.start()
    until(lambda: bool(lines), 20)
    assert started_ticks(int(lines[0]))
    assert child.stop() is False
    until(lambda: not started_ticks(int(lines[0])), 5)


def test_two_commands_at_once_share_the_database_and_leave_none(tmp_path):
    state = tmp_path / "state"
    assert manage(state, "db_roles").returncode == 0
    ask = (
        "import time; from django.db import connection as c\n"
        "for _ in range(4):\n"
        "    with c.cursor() as cursor: cursor.execute('SELECT 1')\n"
        "    time.sleep(0.4)"
    )
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(manage, state, "shell", "--no-imports", "--command", ask) for _ in range(3)
        ]
        done = [run.result() for run in runs]
    assert [run.returncode for run in done] == [0, 0, 0], [run.stderr for run in done]
    assert Cluster(state).pid is None


def test_a_stranger_in_the_place_of_the_sockets_is_refused(tmp_path):
    tmp_path.joinpath("elsewhere").mkdir()
    tmp_path.joinpath("link").symlink_to("elsewhere")
    with pytest.raises(ServiceError, match="not a directory"):
        make_socket_directory(tmp_path / "link", owner=os.getuid())
    tmp_path.joinpath("open").mkdir(mode=0o777)
    tmp_path.joinpath("open").chmod(0o777)
    with pytest.raises(ServiceError, match="open to other users"):
        make_socket_directory(tmp_path / "open", owner=os.getuid())


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_test_run_that_is_cut_short_leaves_no_database_behind(tmp_path, number):
    environment = plain_environment(tmp_path) | {"TMPDIR": str(tmp_path)}
    for name in ("KETER_TEST_RUN", "KETER_TEST_PID", "KETER_STATE_DIR", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-n", "1", "tests/platform/test_test_database.py"],
        cwd=BASE_DIR,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until(lambda: bool(list(tmp_path.glob("keter-test-*/postgres/postmaster.pid"))), 90)
        run.send_signal(number)
        run.wait(60)
        until(lambda: not list(tmp_path.glob("keter-test-*")), 60)
        until(lambda: not processes_about(tmp_path), 30)
    finally:
        run.kill()
        run.wait()
        shutil.rmtree(tmp_path, ignore_errors=True)


def processes_about(place: Path) -> list[str]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [words for pid in pids if str(place) in (words := command_of(pid))]
