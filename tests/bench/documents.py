"""PDFs: our drawing against a plain WeasyPrint call on the same page, in processor time.

`python -m tests.bench documents [--full]`: 8 and 120 lines, then two children at once, then the
memory of a parent and its children over 500 documents. Every file is opened before it counts.
"""

import multiprocessing
import os
import resource
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.common import Contender, compare, line, machine

BENCH = "documents"
CHILDREN = 2


def main(arguments: Sequence[str]) -> int:
    """Print a line for each comparison."""
    parser = ArgumentParser(prog="tests.bench documents")
    parser.add_argument("--full", action="store_true", help="more rounds")
    rounds = 7 if parser.parse_args(arguments).full else 3
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from billing.paper import engine
    from tests.documents import snapshots

    machine(BENCH)
    engine.warm()
    for count, seconds in ((8, 2.0), (120, 4.0)):
        snapshot = snapshots.long_invoice(count, with_detail=True)
        compare(
            BENCH,
            [
                Contender("ours", _per_cpu_second(lambda s=snapshot: engine.draw(s))),
                *(
                    Contender(name, _per_cpu_second(lambda s=snapshot, c=cut: _plain(s, c)))
                    for name, cut in _cutters().items()
                ),
            ],
            rounds=rounds,
            seconds=seconds,
            lines=count,
            unit="PDFs per second of processor time",
        )
    _throughput(seconds=10.0 * rounds / 3)
    _memory(documents=500)
    return 0


def _per_cpu_second(draw: Callable[[], bytes]) -> Callable[[float], float]:
    def run(seconds: float) -> float:
        began, done = time.process_time(), 0
        while (used := time.process_time() - began) < seconds or not done:
            if not draw().startswith(b"%PDF"):
                raise RuntimeError("that is no PDF")
            done += 1
        return done / used

    return run


def _cutters() -> dict[str, Any]:
    """How a plain call embeds fonts: by the system's library where there is one, else slowly."""
    from weasyprint.pdf.fonts import Font
    from weasyprint.text import ffi

    ways = {"plain, fontTools": Font._fonttools_subset}
    if ffi.harfbuzz_subset:
        ways["plain, system HarfBuzz"] = Font._harfbuzz_subset
    return ways


def _plain(snapshot: dict[str, Any], cut: Any) -> bytes:
    """What a project does first: HTML in, PDF out, everything parsed each time."""
    import weasyprint
    from django.template import loader
    from weasyprint.pdf.fonts import Font

    from billing.paper import engine, page
    from billing.paper.marks import FONTS

    faces = "".join(
        f'@font-face{{font-family:"Keter Sans";font-weight:{weight};'
        f"src:url({(FONTS / f'KeterSans-{style}.ttf').as_uri()})}}"
        for style, weight in (("Regular", 400), ("Bold", 700))
    )
    sheet = (Path(engine.__file__).parents[1] / "assets/document.css").read_text(encoding="utf-8")
    markup = loader.render_to_string(
        "billing/documents/invoice.html", page.describe(snapshot) | {"accent": engine.ACCENT}
    )
    ours, Font.subset = Font.subset, lambda font, used, hinting: used and cut(font, used, hinting)
    try:
        pdf: bytes = weasyprint.HTML(string=markup).write_pdf(
            stylesheets=[weasyprint.CSS(string=faces + sheet)],
            pdf_variant="pdf/a-3a",
            pdf_identifier=b"bench",
        )
    finally:
        Font.subset = ours
    return pdf


def _throughput(seconds: float) -> None:
    """Two workers as on a site: each a parent that feeds a child."""
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()

    def work() -> None:
        from billing.paper.child import Child
        from tests.documents import snapshots

        began, done = time.perf_counter(), 0
        with Child() as child:
            while time.perf_counter() - began < seconds:
                child.draw(snapshots.invoice(number=f"B-{os.getpid()}-{done}"))
                done += 1
        results.put(done / (time.perf_counter() - began))

    workers = [context.Process(target=work) for _ in range(CHILDREN)]
    for worker in workers:
        worker.start()
    rates = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    line(BENCH, workers=CHILDREN, pdfs_per_second=round(sum(rates), 2), load=os.getloadavg()[0])


def _memory(documents: int) -> None:
    """Resident memory of the parent, and the most any child of it had."""
    from billing.paper.child import Child
    from tests.documents import snapshots

    before = _resident()
    with Child() as child:
        for number in range(documents):
            child.draw(snapshots.invoice(number=f"M-{number}"))
    line(
        BENCH,
        documents=documents,
        parent_mb_before=before,
        parent_mb_after=_resident(),
        child_mb_max=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 2**20
