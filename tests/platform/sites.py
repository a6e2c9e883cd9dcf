"""A real site in a process of its own, for tests that kill things."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from config.embedded.process import LAUNCHER, started_ticks

BASE_DIR = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 90


def plain_environment(state: Path, **extra: str) -> dict[str, str]:
    """The environment of an operator who set nothing but the place."""
    ours = ("DATABASE", "KETER", "CELERY", "SECURE", "EMAIL", "DJANGO", "SECRET", "HOST", "PORT")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return inherited | {"KETER_STATE_DIR": str(state), "KETER_ENV_FILE": os.devnull} | extra


def manage(
    state: Path, *words: str, timeout: float = 120, **extra: str
) -> "subprocess.CompletedProcess[str]":
    """Run a manage.py command to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=BASE_DIR,
        env=plain_environment(state, **extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Site:
    """`manage.py serve` as a process; what it printed; what it started."""

    def __init__(self, state: Path, *, identity: str = "self", **extra: str) -> None:
        self.state = state
        self.output = state.parent / f"{state.name}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*_as(identity), sys.executable, "manage.py", "serve"],
                cwd=BASE_DIR,
                env=plain_environment(state, **({"PORT": "0"} | extra)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"ready: (http://\S+)", self.text)
        assert found, self.text
        return found[1]

    def wait_ready(self) -> "Site":
        until(lambda: "ready: http" in self.text or self.process.poll() is not None, READY_SECONDS)
        assert self.process.poll() is None, self.text
        return self

    def children(self) -> dict[str, int]:
        """Name and pid of each direct child."""
        found = {}
        names = {
            "bin/postgres": "database",
            "valkey-server": "broker",
            "gunicorn": "web",
            "config worker": "worker",
            "config beat": "beat",
        }
        for pid in children_of(self.process.pid):
            words = command_of(pid)
            name = next((name for word, name in names.items() if word in words), words)
            found[name] = pid
        return found

    def everyone(self) -> dict[int, str]:
        """Every descendant with its start time, so that no later process is mistaken for it."""
        pids = list(descendants_of(self.process.pid))
        return {pid: ticks for pid in pids if (ticks := started_ticks(pid))}

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def _as(identity: str) -> list[str]:
    """What to put before a command to run it as somebody else; see config/embedded/launch.py."""
    if identity == "self":
        return []
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), "9", identity]


@contextlib.contextmanager
def running_site(state: Path, **extra: str) -> Iterator[Site]:
    """A site that answers; stopped, by force if need be, at the end."""
    site = Site(state, **extra)
    try:
        yield site.wait_ready()
    finally:
        if site.process.poll() is None:
            site.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                site.process.wait(60)
            site.process.kill()
            site.process.wait()


def answers(url: str) -> bool:
    """Whether the site answers with a page of its own."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.status == 200
    except (OSError, urllib.error.URLError):
        return False


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until it is true, and fail the test when it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def all_gone(processes: dict[int, str]) -> bool:
    return not any(started_ticks(pid) == ticks for pid, ticks in processes.items())


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants_of(pid: int) -> Iterator[int]:
    for child in children_of(pid):
        yield child
        yield from descendants_of(child)


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port of this machine that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
