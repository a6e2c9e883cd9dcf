"""Private files and directories of an installation. Existing directories keep their mode."""

import os
import pwd
import stat
from pathlib import Path

from config.embedded.errors import ServiceError


def make_private(directory: Path) -> None:
    """Create `directory` (0700) where it is missing; refuse one that belongs to somebody else."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise ServiceError(f"{directory} is in the way: it is not a directory.") from None


def make_socket_directory(directory: Path, *, owner: int) -> None:
    """Create the sockets' directory (0700) for user id `owner`, or verify the one that exists.

    It may lie in /tmp, where others can create names too: one that is a link, is open to others or
    belongs to a stranger is refused.
    """
    make_private(directory)
    status = directory.lstat()
    ours = {owner, os.getuid()}
    if os.getuid() == 0:
        ours.add(pwd.getpwnam("nobody").pw_uid)  # an earlier start as root ran as nobody
    if status.st_uid not in ours:
        raise ServiceError(f"{directory} belongs to another user. Remove it, or ask them to.")
    if status.st_mode & 0o077:
        raise ServiceError(f"{directory} is open to other users. Remove it and start again.")
    if status.st_uid != owner:
        os.chown(directory, owner, -1)


def write_secret(path: Path, text: str) -> None:
    """Write a file only we can read, all of it or nothing."""
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
