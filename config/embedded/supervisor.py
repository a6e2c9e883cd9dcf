"""Run the whole site from one process: database, broker, web, worker and beat.

Started in that order and stopped in the reverse. A part that dies is started again; one that keeps
dying stops the site with its reason. However the supervisor itself ends, nothing stays behind.
"""

import contextlib
import http.client
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from config.embedded.errors import ServiceError
from config.embedded.locks import FileLock, services_lock, wait_until
from config.embedded.paths import StatePaths
from config.embedded.postgres import Cluster
from config.embedded.process import Child, started_ticks
from config.embedded.secret_key import ensure_secret_key
from config.embedded.valkey import valkey_child, wait_until_valkey_answers

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WEB_SECONDS = 120.0
PREDECESSOR_SECONDS = 40.0
BORROWER_SECONDS = 600.0
# A part that lives this long is well again: its failures are forgotten.
WELL_AFTER_SECONDS = 60.0
FAILURES_MAX = 5
POLL_SECONDS = 0.2
HITS_TO_KILL = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(KeyboardInterrupt):
    """Ctrl-C, TERM or HUP: unwind and stop everything in order."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one installation runs, and where it listens."""

    state: StatePaths
    host: str = "127.0.0.1"
    port: int = 8000  # 0 takes any free port
    web_workers: int = 2
    web_threads: int = 4
    worker_concurrency: int = 2
    embedded_database: bool = True
    embedded_broker: bool = True

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the site."""
        return self.host in LOOPBACK


@dataclass
class Part:
    """One supervised child and how it has been doing."""

    child: Child
    failures: int = 0
    restart_at: float = 0.0  # monotonic seconds


@dataclass
class Supervisor:
    """Starts, watches and stops the parts of one installation.

    Use: `with Supervisor(options) as site:` then `start_services()`, whatever must happen before
    visitors come, `start_site()` and `watch()`. Leaving the block stops everything.
    """

    options: Options
    tell: Callable[[str], None] | None = None
    parts: dict[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = self.options.state
        self.cluster = Cluster(self.paths.state)
        self._lock: FileLock = services_lock(self.paths)
        self._listener: socket.socket | None = None
        self._printing = threading.Lock()
        self._stopping = False
        self._hits = 0
        self._handlers: dict[signal.Signals, Any] = {}
        self._database_failures = 0
        self._database_started = 0.0

    def __enter__(self) -> "Supervisor":
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._on_signal)
        try:
            self._become_the_only_one()
            self._listener = self._listen()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()

    # --- What callers use ---------------------------------------------------------------------
    @property
    def url(self) -> str:
        """The address to open in a browser."""
        if self._listener is None:
            return f"http://{self.options.host}:{self.options.port}/"
        host, port = self._reachable()
        name = self.options.host if self.options.host in LOOPBACK else host
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def say(self, text: str) -> None:
        """Print a line of our own. A closed terminal is no reason to stop badly."""
        if self.tell is not None:
            self.tell(text)
        else:
            self._print(text)

    def start_services(self) -> None:
        """Start database and broker, unless the environment names others; both answer on return."""
        ensure_secret_key(self.paths)
        if self.options.embedded_database:
            self.cluster.start(tell=self.say)
            self._database_started = time.monotonic()
        if self.options.embedded_broker:
            self._start_broker()
        self._note()

    def start_site(self) -> None:
        """Start web, worker and beat; returns when the site answers."""
        self.start_worker()
        self._start("web", self._web())
        self._start("beat", self._beat())
        self._wait_until_web_answers()
        self._note()

    def start_worker(self) -> None:
        """Start the worker ahead of the site; does nothing when it runs."""
        if "worker" not in self.parts:
            self._start("worker", self._worker())

    def watch(self) -> None:
        """Keep everything running until a signal or a part that keeps failing ends it.

        Raises ServiceError when a part cannot be kept alive.
        """
        while True:
            time.sleep(POLL_SECONDS)
            self._watch_database()
            for name, part in self.parts.items():
                self._watch_part(name, part)

    def stop(self) -> None:
        """Stop beat, then web and worker, then broker and database. Safe to call again."""
        self._stopping = True
        started = time.monotonic()
        had_parts = bool(self.parts) or self.cluster.is_ours
        if had_parts:
            self._print("Stopping…")
        self._stop_parts("beat")
        self._stop_parts("web", "worker")
        self._stop_parts("broker")
        self.cluster.stop()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._lock.is_held:
            self._lock.write_note({})
            self._lock.release()
        if had_parts:
            self._print(f"Stopped in {time.monotonic() - started:.1f} s. Nothing is left running.")
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    # --- Being the only one -------------------------------------------------------------------
    def _become_the_only_one(self) -> None:
        told = False
        until = time.monotonic() + BORROWER_SECONDS
        while not self._lock.acquire():
            note = self._lock.read_note()
            if note.get("kind") == "site":
                address = note.get("url", "")
                raise ServiceError(
                    f"Keter Billing is already running here (process {note.get('pid')})."
                    f" Open {address} or stop it first: Ctrl-C in its window,"
                    f" or kill {note.get('pid')}."
                )
            if not told:
                self.say("Another command uses the database here; waiting until it has finished…")
                told = True
            if time.monotonic() > until:
                raise ServiceError("Another command still uses the database. Try again later.")
            time.sleep(0.1)
        self._outlive_predecessor(self._lock.read_note())
        self._note()

    def _outlive_predecessor(self, note: Mapping[str, Any]) -> None:
        """After a kill -9 the parts of that run are still stopping: give them their time."""
        pairs = note.get("children", [])
        left = {int(pid): str(ticks) for pid, ticks in pairs}

        def all_gone() -> bool:
            return not any(started_ticks(pid) == ticks for pid, ticks in left.items())

        if all_gone():
            return
        self.say("The previous run ended abruptly; waiting for its parts to stop…")
        if wait_until(all_gone, seconds=PREDECESSOR_SECONDS):
            return
        for pid, ticks in left.items():
            if started_ticks(pid) == ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        wait_until(all_gone, seconds=5)

    def _note(self) -> None:
        """Write down who we are and what we started, for the next one to read."""
        pids = [part.child.pid for part in self.parts.values() if part.child.is_running]
        children = [(pid, started_ticks(pid)) for pid in pids if pid is not None]
        self._lock.write_note(
            {"kind": "site", "pid": os.getpid(), "url": self.url, "children": children}
        )

    def _listen(self) -> socket.socket:
        """Take the port now: a used one is told before anything is started."""
        options = self.options
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except OSError:
            raise ServiceError(f"{options.host} is no address of this machine. Set HOST.") from None
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except PermissionError:
            listener.close()
            raise ServiceError(
                f"Port {options.port} needs administrator rights. Choose one above 1023: PORT=8000."
            ) from None
        except OSError as error:
            listener.close()
            reason = str(error.strerror).lower()
            raise ServiceError(
                f"Port {options.port} on {options.host} cannot be used: {reason}."
                f" Choose another one: PORT={options.port + 1}."
            ) from None
        return listener

    # --- The parts ----------------------------------------------------------------------------
    def _start_broker(self) -> None:
        child = valkey_child(self.paths)
        self._start("broker", child)
        wait_until_valkey_answers(self.paths, child)

    def _web(self) -> Child:
        if self._listener is None:
            raise ServiceError("The web server has no port to listen on.")
        descriptor = self._listener.fileno()
        environment = self._environment()
        environment.setdefault("DATABASE_STATEMENT_TIMEOUT", "30s")
        if self.options.is_loopback:
            environment.setdefault("SECURE", "0")
        return Child(
            "web",
            [
                *(sys.executable, "-m", "gunicorn", "config.wsgi:application"),
                *("--bind", f"fd://{descriptor}"),
                *("--workers", str(self.options.web_workers)),
                *("--threads", str(self.options.web_threads)),
                *("--timeout", "60", "--graceful-timeout", "15"),
                *("--log-level", "warning", "--no-control-socket"),
            ],
            environment=environment,
            on_line=self._line,
            pass_fds=[descriptor],
        )

    def _worker(self) -> Child:
        return Child(
            "worker",
            [
                *(sys.executable, "-m", "celery", "--quiet", "-A", "config", "worker"),
                *("--concurrency", str(self.options.worker_concurrency)),
                *("--loglevel", "WARNING"),
                *("--without-gossip", "--without-mingle"),
            ],
            grace=25.0,
            # Without database and broker there is nothing to finish; leases bring the work back.
            orphan_signal=signal.SIGKILL,
            environment=self._environment(),
            on_line=self._line,
        )

    def _beat(self) -> Child:
        return Child(
            "beat",
            [
                *(sys.executable, "-m", "celery", "--quiet", "-A", "config", "beat"),
                *("--loglevel", "WARNING", "--pidfile="),
            ],
            environment=self._environment(),
            on_line=self._line,
        )

    def _environment(self) -> dict[str, str]:
        """Ours, without the owner of the database: no page and no task may reach for it."""
        environment = dict(os.environ)
        environment.pop("DATABASE_OWNER_URL", None)
        environment |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "KETER_STATE_DIR": str(self.paths.state),
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("LOG_FORMAT", "line")
        return environment

    def _start(self, name: str, child: Child) -> None:
        self.parts[name] = Part(child)
        child.start()

    def _wait_until_web_answers(self) -> None:
        until = time.monotonic() + WEB_SECONDS
        part = self.parts["web"]
        while time.monotonic() < until:
            if not part.child.is_running:
                raise ServiceError("The web server did not start; its reason is printed above.")
            status = self._ask_web()
            if status is not None:
                if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    self.say(f"The site answers with an error ({status}); see the lines above.")
                return
            time.sleep(0.05)
        raise ServiceError(f"The site did not answer within {WEB_SECONDS:.0f} s.")

    def _ask_web(self) -> int | None:
        host, port = self._reachable()
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": "localhost"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _reachable(self) -> tuple[str, int]:
        """Address and port by which this machine itself reaches the site."""
        if self._listener is None:
            raise ServiceError("The site does not listen yet.")
        host, port = self._listener.getsockname()[:2]
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        return host, port

    # --- Watching -----------------------------------------------------------------------------
    def _watch_database(self) -> None:
        if not self.options.embedded_database or self.cluster.is_ours:
            return
        lived = time.monotonic() - self._database_started
        self._database_failures = 1 if lived > WELL_AFTER_SECONDS else self._database_failures + 1
        if self._database_failures > FAILURES_MAX:
            raise ServiceError(f"The database keeps stopping. Its log: {self.cluster.log}")
        self.say("The database stopped; starting it again.")
        self.cluster.start(tell=self.say)
        self._database_started = time.monotonic()
        self.say("The database is back.")

    def _watch_part(self, name: str, part: Part) -> None:
        child = part.child
        code = child.poll()
        if code is None:
            return
        now = time.monotonic()
        if part.restart_at == 0.0:
            part.failures = 1 if now - child.started_at > WELL_AFTER_SECONDS else part.failures + 1
            if part.failures > FAILURES_MAX:
                raise ServiceError(f"The {name} keeps stopping ({_ending(code)}); giving up.")
            part.restart_at = now + (0.0 if part.failures == 1 else min(2.0**part.failures, 15.0))
            self.say(f"The {name} stopped ({_ending(code)}); starting it again.")
        if now >= part.restart_at:
            part.restart_at = 0.0
            child.start()
            self._note()

    def _stop_parts(self, *names: str) -> None:
        """Ask all of them at once, then wait for each."""
        children = [self.parts.pop(name).child for name in names if name in self.parts]
        for child in children:
            child.ask_to_stop()
        for child in children:
            if not child.stop():
                self._print(f"The {child.name} did not stop in {child.grace:.0f} s; killed.")

    # --- Signals and output -------------------------------------------------------------------
    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._stopping:
            raise StopRequested
        self._hits += 1
        if self._hits >= HITS_TO_KILL:
            self._kill_all()

    def _kill_all(self) -> None:
        """The operator is in a hurry: everything committed is safe anyway."""
        for part in self.parts.values():
            part.child.signal(signal.SIGKILL)
        os._exit(130)

    def _line(self, name: str, text: str) -> None:
        self._print(f"{name:>8} | {text}")

    def _print(self, text: str) -> None:
        with self._printing, contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


@contextlib.contextmanager
def supervise(options: Options) -> Iterator[Supervisor]:
    """A supervisor whose end, asked for by a signal, is no error."""
    with contextlib.suppress(StopRequested), Supervisor(options) as site:
        yield site


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"
