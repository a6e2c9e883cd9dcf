"""What documents say, from one catalogue a language in `assets/words`. English has every key."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

LANGUAGES: Final = ("en", "de", "fr", "es", "nl")
_FOLDER: Final = Path(__file__).resolve().parent.parent / "assets" / "words"


def language_of(code: str) -> str:
    """The catalogue for a language code such as `de-AT`; English where there is none."""
    name = code.replace("_", "-").partition("-")[0].lower()
    return name if name in LANGUAGES else "en"


def catalogue(language: str) -> Mapping[str, str]:
    """Every text of a language; what it lacks is English."""
    english: Mapping[str, str] = _read("en")["text"]
    return {**english, **_read(language)["text"]}


def unit(name: str, language: str, *, is_one: bool) -> str:
    """A unit of measure in the reader's language, for one of it or for several.

    A unit nobody translated is printed as it was entered.

    >>> unit("credits", "de", is_one=True), unit("seat-days", "en", is_one=False)
    ('Credit', 'seat-days')
    """
    stem, dash, days = name.partition("-")
    known = _units(language)
    if dash and days == "days" and stem in known:
        return known["days_of"][0].format(known[stem][0])
    forms = known.get(name.lower())
    return forms[0 if is_one else 1] if forms else name


@cache
def _units(language: str) -> Mapping[str, tuple[str, str]]:
    """Forms by the singular and by the plural that the price list may use."""
    english = _read("en")["units"]
    forms: dict[str, tuple[str, str]] = {}
    for name, (one, several) in (english | _read(language)["units"]).items():
        forms[name] = forms[english[name][1]] = (one, several)
    return forms


@cache
def _read(language: str) -> dict[str, dict[str, Any]]:
    with (_FOLDER / f"{language}.toml").open("rb") as file:
        return tomllib.load(file)
