"""Named places where a fault test may make the process fail. Nothing happens unless armed.

`settings.FAILPOINTS` allows them at all; the environment variable `FAILPOINT` arms one: `name` ends
the process as a power cut would, `name=error` raises OSError, `name=full` says the disk is full,
`name=sleep:2` waits two seconds. `@3` after any of them passes the first two times.
"""

import errno
import os
import signal
import time
from collections import Counter

from django.conf import settings

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Fail here when a test armed this name; otherwise do nothing."""
    if not settings.FAILPOINTS:
        return
    armed, _, nth = os.environ.get("FAILPOINT", "").partition("@")
    armed, _, way = armed.partition("=")
    if armed != name:
        return
    _passed[name] += 1
    if nth and _passed[name] != int(nth):
        return
    if way == "error":
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)
    if way == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if way.startswith("sleep:"):
        time.sleep(int(way.removeprefix("sleep:")))
        return
    os.kill(os.getpid(), signal.SIGKILL)
