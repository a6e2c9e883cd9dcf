"""Let any command of manage.py find a running database.

While `serve` runs, its database is used. Otherwise the command starts the embedded one for as long
as it needs it; two commands at once share it, and the last one stops it.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from django.conf import settings

from config.embedded.errors import ServiceError
from config.embedded.locks import borrowers_lock, services_lock, wait_until
from config.embedded.paths import StatePaths
from config.embedded.postgres import Cluster

READY_SECONDS = 90.0

# These start their own services, or have no business with a database.
WITHOUT_DATABASE = frozenset(
    {
        "collectstatic",
        "compilemessages",
        "diffsettings",
        "findstatic",
        "help",
        "makemessages",
        "quickstart",
        "serve",
        "startapp",
        "startproject",
        "test",
        "version",
    }
)


@contextlib.contextmanager
def database_for(arguments: Sequence[str]) -> Iterator[None]:
    """A running database while the command of `arguments` (sys.argv) runs, if it wants one."""
    if not _wants_database(arguments) or not settings.DATABASE_IS_EMBEDDED:
        yield
        return
    with borrowed_database(settings.STATE_PATHS):
        yield


@contextlib.contextmanager
def borrowed_database(paths: StatePaths) -> Iterator[None]:
    """The embedded database of `paths`, somebody else's or our own for the time being."""
    borrowers = borrowers_lock(paths)
    services = services_lock(paths)
    borrowers.acquire(shared=True, wait=True)
    cluster = Cluster(paths.state)
    try:
        if not wait_until(
            lambda: services.acquire() or (cluster.is_furnished and cluster.is_ready),
            seconds=READY_SECONDS,
        ):
            raise ServiceError(
                f"The database of {paths.state} is not ready. Try again in a moment."
            )
        if services.is_held:
            services.write_note({"kind": "command", "pid": os.getpid()})
            cluster.start()
        yield
    finally:
        if cluster.is_ours:
            borrowers.release()
            if not borrowers.acquire():
                print("Waiting for another command that uses this database…", file=sys.stderr)
                borrowers.acquire(wait=True)
            cluster.stop()
            services.write_note({})
        services.release()
        borrowers.release()


def _wants_database(arguments: Sequence[str]) -> bool:
    words = arguments[1:]
    if not words or words[0].startswith("-") or {"-h", "--help"} & set(words):
        return False
    if words[0] == "check":
        return any(word.startswith("--database") for word in words)
    return words[0] not in WITHOUT_DATABASE
