"""Named places where a fault test may make the process fail. Nothing happens unless armed.

`settings.FAILPOINTS` allows them at all; the environment variable `FAILPOINT` arms one: `name` ends
the process as a power cut would, `name=error` raises OSError, `name=full` says the disk is full.
"""

import errno
import os
import signal

from django.conf import settings


def failpoint(name: str) -> None:
    """Fail here when a test armed this name; otherwise do nothing."""
    if not settings.FAILPOINTS:
        return
    armed, _, way = os.environ.get("FAILPOINT", "").partition("=")
    if armed != name:
        return
    if way == "error":
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)
    if way == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    os.kill(os.getpid(), signal.SIGKILL)
