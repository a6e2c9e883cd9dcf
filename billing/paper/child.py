"""A short-lived process that draws, so that a hostile document can hurt nobody but itself.

The parent forks it after `engine.warm()`, sends it one snapshot at a time and reads the bytes back.
It has limits of memory, processor, file size and open files, no environment, none of the parent's
connections; and the parent stops it when the clock on the wall runs out.
"""

import contextlib
import json
import logging
import os
import resource
import select
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NoReturn

MEMORY_MAX: Final = 512 * 2**20  # bytes on top of what the parent has mapped
CPU_SECONDS_MAX: Final = 30  # a document
WALL_SECONDS_MAX: Final = 45  # a document
FILE_MAX: Final = 20 * 2**20  # bytes
FILES_MAX: Final = 64
BATCH_MAX: Final = 50  # documents a child draws before it is replaced

_HEAD: Final = struct.Struct(">cI")  # what it is, how many bytes follow
_DONE, _FAILED = b"d", b"f"
_CHUNK: Final = 65_536
# One child a process at a time: forking while another thread draws would copy its locks, held.
_TURN: Final = threading.RLock()

Draw = Callable[[Mapping[str, Any]], bytes]


class RenderFailed(Exception):
    """The document was not drawn. The text is for an operator."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may use."""

    memory: int = MEMORY_MAX
    cpu_seconds: int = CPU_SECONDS_MAX
    wall_seconds: int = WALL_SECONDS_MAX


class Child:
    """Draws documents in processes of its own, at most BATCH_MAX in each.

    with Child() as child:
        pdf = child.draw(snapshot)
    """

    def __init__(self, *, draw: Draw | None = None, limits: Limits | None = None) -> None:
        self._draw = draw
        self._limits = limits or Limits()
        self._pid = 0
        self._drawn = 0
        self._to_child = self._from_child = -1

    def __enter__(self) -> "Child":
        # Before anything is asked: a renderer that cannot start is nobody's document's fault.
        self._draw = self._draw or _engine_draw()
        _TURN.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end()
        finally:
            _TURN.release()

    def draw(self, snapshot: Mapping[str, Any]) -> bytes:
        """The PDF of a snapshot. Raises RenderFailed, and is ready for the next one."""
        if self._drawn >= BATCH_MAX:
            self._end()
        if not self._pid:
            self._start()
        request = json.dumps(snapshot, ensure_ascii=True).encode()
        deadline = time.monotonic() + self._limits.wall_seconds
        try:
            self._send(_HEAD.pack(_DONE, len(request)) + request, deadline)
            kind, size = _HEAD.unpack(self._receive(_HEAD.size, deadline))
            if size > FILE_MAX:
                raise RenderFailed(f"the file would have {size} bytes")
            body = self._receive(size, deadline)
        except BaseException:
            # Whatever interrupted us, a child that is in the middle of something cannot go on.
            self._end(at_once=True)
            raise
        self._drawn += 1
        if kind == _FAILED:
            raise RenderFailed(body.decode("utf-8", "replace"))
        return bytes(body)

    # --- the parent's side -----------------------------------------------------------------------

    def _start(self) -> None:
        draw = self._draw or _engine_draw()
        requests_out, requests_in = os.pipe()
        answers_out, answers_in = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _live(draw, self._limits, requests_out, answers_in)
        os.close(requests_out)
        os.close(answers_in)
        self._to_child, self._from_child = requests_in, answers_out
        os.set_blocking(requests_in, False)
        self._drawn = 0

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._to_child, deadline, to_write=True)
            try:
                rest = rest[os.write(self._to_child, rest[:_CHUNK]) :]
            except BrokenPipeError:
                raise RenderFailed(self._fate()) from None

    def _receive(self, size: int, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            self._wait(self._from_child, deadline, to_write=False)
            chunk = os.read(self._from_child, min(_CHUNK, size - len(data)))
            if not chunk:
                raise RenderFailed(self._fate())
            data += chunk
        return data

    def _wait(self, pipe: int, deadline: float, *, to_write: bool) -> None:
        watcher = select.poll()
        watcher.register(pipe, select.POLLOUT if to_write else select.POLLIN)
        if not watcher.poll(max(0, int((deadline - time.monotonic()) * 1_000))):
            raise RenderFailed(f"it took longer than {self._limits.wall_seconds} seconds")

    def _fate(self) -> str:
        """How the child ended, in words."""
        status = self._reap(at_once=False)
        if status is None or os.WIFEXITED(status):
            return "the renderer ended without an answer"
        name = signal.Signals(os.WTERMSIG(status)).name
        if name == "SIGXCPU":
            return f"it needed more than {self._limits.cpu_seconds} seconds of processor time"
        return f"the renderer was ended by {name}"

    def _end(self, *, at_once: bool = False) -> None:
        if not self._pid:
            return
        for pipe in (self._to_child, self._from_child):
            os.close(pipe)
        self._reap(at_once=at_once)
        self._pid = self._drawn = 0

    def _reap(self, *, at_once: bool) -> int | None:
        """Wait for the child's end, a second at most when it was not asked to end at once."""
        until = time.monotonic() + 1
        while not at_once and time.monotonic() < until:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid:
                return status
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            return os.waitpid(self._pid, 0)[1]
        return None


def draw_apart(snapshot: Mapping[str, Any], *, limits: Limits | None = None) -> bytes:
    """The PDF of one snapshot, drawn by a child of its own. Raises RenderFailed."""
    with Child(limits=limits) as child:
        return child.draw(snapshot)


def _engine_draw() -> Draw:
    """The real thing, warmed before the fork so that the child starts where we are."""
    from billing.paper import engine

    engine.warm()
    return engine.draw


# --- the child's side ----------------------------------------------------------------------------


def _live(draw: Draw, limits: Limits, requests: int, answers: int) -> NoReturn:
    """Answer requests until the pipe closes. Never returns into the parent's stack."""
    code = 1
    try:
        _confine(limits, requests, answers)
        with os.fdopen(requests, "rb") as source, os.fdopen(answers, "wb") as target:
            while _answer(draw, limits, source, target):
                pass
        code = 0
    finally:
        os._exit(code)


def _confine(limits: Limits, *pipes: int) -> None:
    logging.disable(logging.CRITICAL)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    first, second = sorted(pipes)
    os.closerange(3, first)
    os.closerange(first + 1, second)
    os.closerange(second + 1, max(second + 2, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    os.environ.clear()
    os.chdir(tempfile.gettempdir())
    _limit(resource.RLIMIT_AS, _mapped() + limits.memory)
    _limit(resource.RLIMIT_FSIZE, FILE_MAX)
    _limit(resource.RLIMIT_NOFILE, max(FILES_MAX, second + 1))
    _limit(resource.RLIMIT_CORE, 0)


def _answer(draw: Draw, limits: Limits, source: BinaryIO, target: BinaryIO) -> bool:
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return False
    _, size = _HEAD.unpack(head)
    snapshot = json.loads(source.read(size))
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    # Only the soft limit: the next document moves it on. Passing it ends the process.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (spent + limits.cpu_seconds, hard))
    try:
        kind, body = _DONE, draw(snapshot)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this document's end
        kind, body = _FAILED, _said(error).encode()
    target.write(_HEAD.pack(kind, len(body)))
    target.write(body)
    target.flush()
    return True


def _said(error: Exception) -> str:
    """A failure for an operator: our own words as they are, others with their kind."""
    if isinstance(error, MemoryError):
        return "it needed more memory than a document may"
    text = " ".join(str(error).split())[:200]
    if type(error).__module__.startswith("billing."):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mapped() -> int:
    """Bytes this process has mapped already."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # no such file outside Linux
        return 2**30
    return pages * resource.getpagesize()


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, least))
