"""What pip cannot give: the Pango libraries for PDFs, and a browser for the `ui` tests.

As root on Debian or a relative the missing packages are installed; otherwise the command stops
first, with the exact line for an administrator.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from config.embedded.errors import ServiceError

PANGO_LIBRARIES = ("libpango-1.0.so.0", "libpangoft2-1.0.so.0")
PANGO_PACKAGES = ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_PACKAGES = ("chromium", "fonts-liberation")


def ensure_system_packages(
    *, browser: bool = False, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Make sure of Pango, and of a browser when asked; raises ServiceError with what to run."""
    missing: list[str] = []
    if not all(_has_library(name) for name in PANGO_LIBRARIES):
        missing += PANGO_PACKAGES
    if browser and find_browser() is None:
        missing += BROWSER_PACKAGES
    if missing:
        _install(missing, tell)


def main() -> None:
    """Everything the tests need of the machine, for `.ci/run`."""
    try:
        ensure_system_packages(browser=True, tell=print)
    except ServiceError as error:
        sys.exit(str(error))


def find_browser() -> Path | None:
    """The Chromium of this machine."""
    found = (shutil.which(name) for name in BROWSERS)
    return next((Path(path) for path in found if path), None)


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _install(packages: Sequence[str], tell: Callable[[str], None]) -> None:
    line = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise ServiceError(
            "This machine lacks system packages. On Debian they are called"
            f" {' '.join(packages)}; install what your system calls them (Pango 1.44 or newer)."
        )
    if os.geteuid() != 0:
        raise ServiceError(
            f"This machine lacks system packages. Ask an administrator to run:\n  sudo {line}"
        )
    tell(f"Installing system packages: {' '.join(packages)}…")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    )
    for command in commands:
        done = subprocess.run(
            command,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        words = done.stderr.strip().splitlines()[-3:]
        raise ServiceError(
            "System packages could not be installed. Run:\n  " + "\n".join([line, *words])
        )
