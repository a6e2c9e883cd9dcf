"""The process that draws may die in any way; the parent says why and goes on."""

import os
import resource
import signal
import tempfile
import time
from pathlib import Path

import pytest

from billing.paper.child import BATCH_MAX, FILE_MAX, Child, Limits, RenderFailed, draw_apart
from tests.documents import snapshots


@pytest.fixture(autouse=True)
def _nobody_is_left():
    """Every child is waited for, however the test ended it."""
    before = _children()
    yield
    assert _children() == before


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


SHORT = Limits(memory=64 * 2**20, cpu_seconds=1, wall_seconds=60)  # a busy machine is slow
IMPATIENT = Limits(memory=64 * 2**20, cpu_seconds=1, wall_seconds=2)


def _hoard() -> bytes:
    kept = []
    while True:
        kept.append(bytearray(2**20))


def _spin() -> bytes:
    while True:
        pass


def _flood() -> bytes:
    with tempfile.TemporaryFile() as file:
        for _ in range(FILE_MAX // 2**20 + 2):
            file.write(bytes(2**20))
            file.flush()
    return b"written"


def _open_many() -> bytes:
    return bytes(len([open(os.devnull, "rb") for _ in range(200)]))


WAYS = {
    "abort": os.abort,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "hoard": _hoard,
    "spin": _spin,
    "sleep": lambda: time.sleep(60),
    "flood": _flood,
    "open": _open_many,
    "huge": lambda: bytes(FILE_MAX + 1),
    "raise": lambda: 1 / 0,
}
SAID = {
    "abort": "ended by SIGABRT",
    "segfault": "ended by SIGSEGV",
    "kill": "ended by SIGKILL",
    "exit": "ended without an answer",
    "hoard": "more memory than a document may",
    "spin": "more than 1 seconds of processor time",
    "sleep": "longer than 2 seconds",
    "flood": "File too large|SIGXFSZ",
    "open": "Too many open files",
    "huge": "would have",
    "raise": "ZeroDivisionError: division by zero",
}


def _act(snapshot) -> bytes:
    way = snapshot.get("way")
    return WAYS[way]() or b"" if way else b"drawn"


@pytest.mark.parametrize("way", WAYS)
def test_it_may_end_badly_and_the_next_document_is_drawn(way):
    with Child(draw=_act, limits=IMPATIENT if way == "sleep" else SHORT) as child:
        assert child.draw({}) == b"drawn"
        with pytest.raises(RenderFailed, match=SAID[way]):
            child.draw({"way": way})
        assert child.draw({}) == b"drawn"


def test_processor_time_is_counted_for_each_document_anew():
    def work(_snapshot) -> bytes:
        until = time.process_time() + 0.7
        while time.process_time() < until:
            pass
        return b"drawn"

    with Child(draw=work, limits=SHORT) as child:
        assert [child.draw({}) for _ in range(4)] == [b"drawn"] * 4


def test_a_child_is_replaced_after_a_batch():
    with Child(draw=lambda _: str(os.getpid()).encode()) as child:
        pids = [child.draw({}) for _ in range(BATCH_MAX + 1)]
    assert len(set(pids)) == 2
    assert len(set(pids[:BATCH_MAX])) == 1


def test_it_has_no_environment_no_connections_and_no_core_file(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    read_end, write_end = os.pipe()

    def look(_snapshot) -> bytes:
        inherited = [fd for fd in (read_end, write_end) if Path(f"/proc/self/fd/{fd}").exists()]
        core = resource.getrlimit(resource.RLIMIT_CORE)[0]
        return repr([dict(os.environ), inherited, core]).encode()

    with Child(draw=look) as child:
        assert child.draw({}) == b"[{}, [], 0]"
    os.close(read_end)
    os.close(write_end)


def test_an_interrupted_parent_leaves_no_child_behind():
    class Stop(BaseException):
        pass

    def ring(*_args) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with Child(draw=_act) as child:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(Stop):
                child.draw({"way": "sleep"})
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_large_snapshot_and_a_large_file_pass_through_the_pipes():
    with Child(draw=lambda snapshot: snapshot["text"].encode()) as child:
        text = "x" * 5_000_000
        assert child.draw({"text": text}) == text.encode()


def test_a_real_document_is_the_same_drawn_apart_or_here(draw):
    snapshot = snapshots.invoice()
    assert draw_apart(snapshot) == draw(snapshot)
