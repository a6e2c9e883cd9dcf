"""Become a service: tie this process to its supervisor, put off root if asked, then exec.

Run as a script by `config.embedded.process`: a fresh interpreter may safely do between fork and
exec what a threaded supervisor may not. Standard library only.

Usage: launch.py PARENT_PID SIGNAL AS COMMAND [ARGUMENT...]
SIGNAL is what the service gets when the supervisor dies, however it dies. AS is one of
  self         stay who we are
  userns       root only: look like `nobody` from inside, in a user namespace, and own root's files
  nobody       root only: become `nobody`, keeping only the right to pass folders closed to it
"""

import ctypes
import os
import pwd
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAPABILITY_VERSION_3 = 0x20080522

EXIT_CANNOT_CHANGE_USER = 97
EXIT_PARENT_GONE = 98


def main() -> None:
    """Do what the module says; does not return."""
    parent, signal_number, identity = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    command = sys.argv[4:]
    try:
        change_identity(identity)
    except OSError as error:
        print(f"cannot run as {identity}: {error}", file=sys.stderr)
        os._exit(EXIT_CANNOT_CHANGE_USER)
    # After the identity: the kernel forgets this wish when credentials change.
    die_with_parent(parent, signal_number)
    os.execv(command[0], command)  # noqa: S606 (a list, no shell)


def die_with_parent(parent: int, signal_number: int) -> None:
    """Have the kernel send us `signal_number` when process `parent` ends, however it ends."""
    if hasattr(ctypes.CDLL(None), "prctl"):
        _prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(EXIT_PARENT_GONE)


def change_identity(identity: str) -> None:
    """Put off root as `identity` says; raises OSError when the kernel does not let us."""
    if identity == "self":
        return
    nobody = pwd.getpwnam("nobody")
    if identity == "userns":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
        Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")
        return
    # Keeps capabilities when the user changes, and lets access(2) count them as open(2) does.
    _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    _keep_only(CAP_DAC_OVERRIDE)


def _keep_only(capability: int) -> None:
    """Hold exactly one capability, and pass it on through exec."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low = 1 << capability
    data = (ctypes.c_uint32 * 6)(low, low, low, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _prctl(option: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(argument) for argument in arguments)):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    main()
