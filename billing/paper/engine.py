"""WeasyPrint, set up once a process: our fonts, our sheets, a fetcher that fetches nothing else.

Draws in the calling process. Customers' text is drawn in a child of its own: see child.py.
"""

import functools
import gc
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn
from xml.etree import ElementTree

import cssselect2  # type: ignore[import-untyped]
import weasyprint
from django.template import loader
from weasyprint.pdf import fonts as pdf_fonts
from weasyprint.text import ffi
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from billing.paper import TEMPLATE_VERSION, page
from billing.paper.marks import FONTS

try:
    import uharfbuzz
except ImportError:  # pragma: no cover - the system check says so first
    uharfbuzz = None

ACCENT: Final = "#161b22"
_ASSETS: Final = Path(__file__).resolve().parent.parent / "assets"
_STYLES: Final = ("Regular", "Bold")
_CONTRAST_MIN: Final = Decimal("4.5")  # WCAG AA for text on white
_DROPPED_TABLES: Final = tuple(
    int.from_bytes(tag, "big")
    for tag in (b"BASE", b"DSIG", b"GPOS", b"GSUB", b"JSTF", b"LTSH", b"PCLT", b"SVG ")
)


class Blocked(Exception):
    """A document asked for something from outside; it is not drawn."""


class NothingFetched(URLFetcher):
    """Hands out named assets; anything else ends the drawing."""

    def __init__(self, assets: Mapping[str, tuple[bytes, str]] | None = None) -> None:
        super().__init__(allowed_protocols=(), allow_redirects=False, fail_on_errors=True)
        self.assets = assets or {}

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> URLFetcherResponse:
        """The asset of this name. Raises FatalURLFetchingError for every other address."""
        if url in self.assets:
            body, media_type = self.assets[url]
            return URLFetcherResponse(url, body, {"Content-Type": media_type})
        raise FatalURLFetchingError(url[:80])

    def open(self, *args: Any, **kwargs: Any) -> NoReturn:
        """No other door either."""
        raise FatalURLFetchingError("blocked")


class _Fonts(FontConfiguration):
    """Our two fonts, added from where they lie: no copies, no temporary folder."""

    def __init__(self) -> None:
        super().__init__()
        for style in _STYLES:
            path = str(FONTS / f"KeterSans-{style}.ttf").encode()
            if not ffi.fontconfig.FcConfigAppFontAddFile(self._config, path):
                raise RuntimeError(f"the font {path.decode()} cannot be loaded")
        ffi.pangoft2.pango_fc_font_map_config_changed(
            ffi.ffi.cast("PangoFcFontMap *", self.font_map)
        )


class _Page(weasyprint.HTML):
    """A page of ours: well-formed XML parses faster, and needs only our own default sheet."""

    def __init__(self, markup: str, fetcher: URLFetcher) -> None:
        try:
            # Our own template, with every value escaped and no document type: nothing to expand.
            root = ElementTree.fromstring(markup)  # noqa: S314  # nosec B314
        except ElementTree.ParseError:
            super().__init__(string=markup, url_fetcher=fetcher, base_url=None)
            return
        self.base_url = None
        self.url_fetcher = fetcher
        self.media_type = "print"
        self.wrapper_element = cssselect2.ElementWrapper.from_html_root(root, content_language=None)
        self.etree_element = self.wrapper_element.etree_element

    def _ua_stylesheets(self, forms: bool = False) -> list[weasyprint.CSS]:
        return [_sheet("agent.css")]


def draw(snapshot: Mapping[str, Any], *, template: str = "") -> bytes:
    """The PDF of a snapshot: PDF/A-3a, tagged, the same bytes for the same snapshot.

    template: another than the one of the snapshot's kind.
    Raises Blocked when it asks for anything from outside, MissingData when it cannot be described.
    """
    described = page.describe(snapshot)
    accent = readable(str(snapshot["seller"].get("accent") or ""))
    markup = loader.render_to_string(
        template or f"billing/documents/{described['kind']}.html", described | {"accent": accent}
    )
    return typeset(markup, accent=accent, identifier=_identifier(snapshot))


def typeset(markup: str, *, accent: str, identifier: bytes) -> bytes:
    """The PDF of a template's output. Raises Blocked when it asks for anything from outside."""
    try:
        drawn = _Page(markup, NothingFetched()).render(
            font_config=_fonts(),
            stylesheets=[_sheet("document.css"), _accent_sheet(accent)],
            pdf_variant="pdf/a-3a",
        )
        return drawn.write_pdf(pdf_variant="pdf/a-3a", pdf_identifier=identifier)
    except FatalURLFetchingError as error:
        raise Blocked(f"it asks for {error}") from error


def warm() -> None:
    """Load everything, draw a page, and keep what is loaded out of the collector's way.

    Call it before forking: the children then share it all. Calling it again costs nothing.
    """
    _warm_once()


def subsetter() -> str:
    """Which library cuts fonts down: `uharfbuzz`, the system's `harfbuzz`, or slow `fontTools`."""
    if uharfbuzz is not None:
        return "uharfbuzz"
    return "harfbuzz" if ffi.harfbuzz_subset else "fontTools"


@functools.lru_cache(maxsize=64)
def readable(colour: str) -> str:
    """The colour when it is one and text in it can be read on white; ink otherwise.

    >>> readable("#0b5563"), readable("yellow"), readable("#ffff00")
    ('#0b5563', '#161b22', '#161b22')
    """
    digits = colour.lower().removeprefix("#")
    if len(digits) != 6 or not set(digits) <= set("0123456789abcdef"):
        return ACCENT
    red, green, blue = (_linear(Decimal(int(digits[i : i + 2], 16)) / 255) for i in (0, 2, 4))
    luminance = Decimal("0.2126") * red + Decimal("0.7152") * green + Decimal("0.0722") * blue
    contrast = Decimal("1.05") / (luminance + Decimal("0.05"))
    return f"#{digits}" if contrast >= _CONTRAST_MIN else ACCENT


def _linear(channel: Decimal) -> Decimal:
    if channel <= Decimal("0.04045"):
        return channel / Decimal("12.92")
    return ((channel + Decimal("0.055")) / Decimal("1.055")) ** Decimal("2.4")


def _identifier(snapshot: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(snapshot, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = f"{TEMPLATE_VERSION}\n{canonical}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


@functools.cache
def _fonts() -> _Fonts:
    return _Fonts()


@functools.cache
def _sheet(name: str) -> weasyprint.CSS:
    return weasyprint.CSS(
        string=(_ASSETS / name).read_text(encoding="utf-8"),
        font_config=_fonts(),
        url_fetcher=NothingFetched(),
    )


@functools.lru_cache(maxsize=64)
def _accent_sheet(accent: str) -> weasyprint.CSS:
    return weasyprint.CSS(
        string=(
            f".facts{{border-top-color:{accent}}}"
            f".facts .due,h1 span,.sum .grand td{{color:{accent}}}"
            f".sum .grand th,.sum .grand td{{border-top-color:{accent}}}"
            f".law{{border-left-color:{accent}}}"
        ),
        font_config=_fonts(),
        url_fetcher=NothingFetched(),
    )


@functools.cache
def _warm_once() -> None:
    specimen = json.loads((_ASSETS / "specimen.json").read_text(encoding="utf-8"))
    draw(specimen)
    gc.collect()
    gc.freeze()


def _subset(font: Any, to_unicode: Mapping[int, str], hinting: bool) -> None:
    """Keep the glyphs in use, at their places, in 1/10 of the time fontTools takes."""
    if not to_unicode:
        return
    wanted = uharfbuzz.SubsetInput()
    wanted.glyph_set.update(to_unicode)
    wanted.flags = uharfbuzz.SubsetFlags.RETAIN_GIDS | uharfbuzz.SubsetFlags.DESUBROUTINIZE
    if not hinting:
        wanted.flags |= uharfbuzz.SubsetFlags.NO_HINTING
    if font.missing:
        wanted.flags |= uharfbuzz.SubsetFlags.NOTDEF_OUTLINE
    wanted.drop_table_tag_set.update(_DROPPED_TABLES)
    face = uharfbuzz.Face(font.file_content, font.index)
    font.file_content = bytes(uharfbuzz.subset(face, wanted).blob.data)


if uharfbuzz is not None:
    pdf_fonts.Font.subset = _subset
