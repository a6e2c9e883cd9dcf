"""One supervised child process: started tied to us, stopped kindly, leaving no stragglers."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")
KILL_SECONDS = 5.0


class Child:
    """A long-running command in its own session, with its output handed on line by line.

    The terminal's Ctrl-C reaches only the supervisor, which stops its children in order. When the
    supervisor dies, even by kill -9, the kernel sends the child a signal.
    Start children from the main thread: the kernel watches the thread that forked.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 20.0,
        orphan_signal: signal.Signals | None = None,
        identity: str = "self",
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        on_line: Callable[[str, str], None] | None = None,
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Describe the child; nothing is started.

        stop_signal, grace: how to ask it to stop, and how many seconds it gets.
        orphan_signal: what the kernel sends when we die; the stop signal unless told otherwise.
        identity: see launch.py. environment: the whole environment; None hands on ours.
        on_line(name, text) receives its output; without it the output goes to the file `log`.
        pass_fds: open files it inherits, a listening socket for one.
        """
        self.name = name
        self.command = list(command)
        self.stop_signal = stop_signal
        self.grace = grace
        self.orphan_signal = orphan_signal or stop_signal
        self.identity = identity
        self.environment = environment
        self.directory = directory
        self.on_line = on_line
        self.log = log
        self.pass_fds = tuple(pass_fds)
        self.started_at = 0.0  # monotonic seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._asked = False

    @property
    def pid(self) -> int | None:
        """Process id of the last start, also after it ended; None before the first."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the child is alive now."""
        return self._process is not None and self.poll() is None

    def start(self) -> None:
        """Start the command. Does not wait for it to be useful."""
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
        tie = [str(os.getpid()), str(int(self.orphan_signal)), self.identity]
        with contextlib.ExitStack() as stack:
            output: int | object = subprocess.PIPE
            if self.on_line is None:
                target = self.log or Path(os.devnull)
                output = stack.enter_context(target.open("ab"))
            self._process = subprocess.Popen(
                [*launcher, *tie, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,  # type: ignore[arg-type]
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if self.environment is None else dict(self.environment),
                cwd=self.directory,
                pass_fds=self.pass_fds,
            )
        self._asked = False
        self.started_at = time.monotonic()
        if self.on_line is not None:
            self._pump = threading.Thread(target=self._hand_on, args=(self._process,), daemon=True)
            self._pump.start()

    def poll(self) -> int | None:
        """Exit code, or None while it runs. Ends what the child left behind in its group."""
        process = self._process
        if process is None or process.returncode is not None:
            return None if process is None else process.returncode
        if has_ended(process.pid):
            # Before the pid is reaped it cannot name anybody else's group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.poll()

    def wait(self, seconds: float) -> bool:
        """Wait until the child has ended; False when it still runs after `seconds`."""
        until = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child itself, if it runs."""
        if self.is_running and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ask_to_stop(self) -> None:
        """Send the stop signal, once: to some programs a second one means "drop everything"."""
        if not self._asked:
            self._asked = True
            self.signal(self.stop_signal)

    def stop(self) -> bool:
        """Ask it to stop, wait its grace, then kill its group. True when it stopped by itself."""
        if not self.is_running:
            return True
        self.ask_to_stop()
        kindly = self.wait(self.grace)
        if not kindly and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(KILL_SECONDS)
        if self._pump is not None:
            self._pump.join(1.0)
        return kindly

    def _hand_on(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None or self.on_line is None:
            return
        with process.stdout as lines:
            for line in lines:
                self.on_line(self.name, line.decode(errors="replace").rstrip())


def has_ended(pid: int) -> bool:
    """Whether our child `pid` is dead, without reaping it."""
    with contextlib.suppress(ChildProcessError):
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return result is not None
    return False


def started_ticks(pid: int) -> str | None:
    """The kernel's start time of a process: with the pid, a name nobody else ever gets."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
