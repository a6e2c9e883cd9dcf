"""Who runs the embedded services of a state directory: one owner, any number of borrowers.

The locks are the kernel's: however a process ends, its lock ends with it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from config.embedded.files import make_private
from config.embedded.paths import StatePaths


class FileLock:
    """An exclusive or shared lock on a file, with a note about its holder inside."""

    def __init__(self, path: Path) -> None:
        """Describe the lock; nothing is opened."""
        self.path = path
        self._file: TextIO | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._file is not None

    def acquire(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take the lock; False when another holds it and we do not wait. Wants main memory only."""
        make_private(self.path.parent)
        file = self._file or os.fdopen(
            os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+"
        )
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._file is None:
                file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def write_note(self, note: dict[str, Any]) -> None:
        """Say who holds it, for the sentence another process will print."""
        if self._file is None:
            return
        self._file.seek(0)
        self._file.truncate()
        json.dump(note, self._file)
        self._file.flush()

    def read_note(self) -> dict[str, Any]:
        """The note of the present or the last holder; empty when there is none."""
        try:
            note = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


def services_lock(paths: StatePaths) -> FileLock:
    """Held by the process that runs the services."""
    return FileLock(paths.state / "services.lock")


def borrowers_lock(paths: StatePaths) -> FileLock:
    """Held, shared, by every command that uses services it may not have started."""
    return FileLock(paths.state / "borrowers.lock")


def wait_until(ready: Callable[[], bool], *, seconds: float, pause: float = 0.05) -> bool:
    """Poll until `ready()`; False after `seconds`."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True
