"""Progress bars of the commands, on standard error; silent where nobody watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far a named step is: (step, done, whole). 0 whole: count rows."""
    bars: dict[str, Any] = {}

    def show(step: str, done: int, whole: int) -> None:
        bar = bars.get(step)
        if bar is None:
            for other in bars.values():
                other.close()
            bar = bars[step] = tqdm(
                desc=step, total=whole or None, unit="", mininterval=0.5, disable=None
            )
        if whole:
            bar.update(max(done - bar.n, 0))
        else:
            bar.update(done)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
