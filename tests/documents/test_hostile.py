"""What customers type is drawn as text: nothing is fetched or read, nothing takes for ever."""

import socket
from typing import Any

import pytest

from billing.paper import engine
from billing.paper.child import Child, Limits, RenderFailed
from tests.documents import reading, snapshots

SENTINEL = "sentinel-5f3a91"
TARGETS = ("file://{path}", "http://127.0.0.1:{port}/x", "https://metadata.example/latest")
VECTORS = {
    "img": '<img src="{url}"/>',
    "stylesheet": '<link rel="stylesheet" href="{url}"/>',
    "link attachment": '<link rel="attachment" href="{url}"/>',
    "a attachment": '<a rel="attachment" href="{url}">x</a>',
    "import": "<style>@import url({url});</style>",
    "font-face": "<style>@font-face{{font-family:x;src:url({url})}} p{{font-family:x}}</style>",
    "background": '<p style="background:url({url})">x</p>',
    "content": '<p style="content:url({url})">x</p>',
    "list-style": '<ul style="list-style-image:url({url})"><li>x</li></ul>',
    "border-image": '<p style="border:1px solid;border-image:url({url}) 1">x</p>',
    "object": '<object data="{url}"></object>',
    "embed": '<embed src="{url}"/>',
    "base": '<base href="{url}"/><img src="x"/>',
    "svg image": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    "svg use": '<svg xmlns="http://www.w3.org/2000/svg"><use href="{url}#a"/></svg>',
    "color profile": "<style>@color-profile --x{{src:url({url})}}</style>",
    "entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]>&e;',
}
SELLER_FIELDS = (
    "name",
    "legal_name",
    "street",
    "postal_code",
    "city",
    "region",
    "vat_id",
    "registration",
    "directors",
    "email",
    "phone",
    "iban",
    "bic",
    "bank_name",
    "accent",
    "footer",
)
BUYER_FIELDS = (
    "code",
    "name",
    "attention",
    "street",
    "postal_code",
    "city",
    "region",
    "country",
    "vat_id",
    "purchase_order",
    "buyer_reference",
    "contract",
)


@pytest.fixture
def world(monkeypatch, tmp_path) -> dict[str, Any]:
    """A file that must not be read, a server that must not be called, and who tried."""
    tried: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no connections here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    asked: list[str] = []
    fetch = engine.NothingFetched.fetch

    def note(self: engine.NothingFetched, url: str, headers: Any = None) -> Any:
        asked.append(url)
        return fetch(self, url, headers)

    monkeypatch.setattr(engine.NothingFetched, "fetch", note)
    secret = tmp_path / "secret.txt"
    secret.write_text(SENTINEL)
    return {"path": secret, "port": 9, "tried": tried, "asked": asked}


def _everywhere(text: str) -> dict[str, Any]:
    """An invoice with this text in every field a person can fill in."""
    snapshot = snapshots.invoice(notes=text, number=text)
    snapshot["seller"] = snapshot["seller"] | dict.fromkeys(SELLER_FIELDS, text)
    snapshot["buyer"] = snapshot["buyer"] | dict.fromkeys(BUYER_FIELDS, text)
    for line in snapshot["lines"]:
        line |= {"description": text, "detail": text, "unit": text}
    for group in snapshot["taxes"]:
        group |= {"reason": text, "reason_code": text, "reason_key": text}
    for grant in snapshot["credits"]["grants"]:
        grant |= {"label": text, "reference": text, "kind": text}
    return snapshot


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_markup_in_any_field_is_printed_and_fetches_nothing(vector, world, draw):
    url = TARGETS[0].format(**world)
    pdf = draw(_everywhere(vector.format(url=url)))
    assert world["asked"] == []
    assert world["tried"] == []
    assert SENTINEL not in reading.text(pdf)
    assert b"/EmbeddedFile" not in pdf
    assert vector[:4] in reading.text(pdf)


@pytest.mark.parametrize("target", TARGETS, ids=["file", "loopback", "https"])
@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_even_a_template_that_forgot_to_escape_reaches_nothing(vector, target, world, draw):
    body = vector.format(url=target.format(**world))
    markup = f"<html lang='en'><head></head><body>{body}</body></html>"
    try:
        pdf = engine.typeset(markup, accent=engine.ACCENT, identifier=b"x")
    except engine.Blocked:
        pdf = b""
    assert world["tried"] == []
    assert not pdf or SENTINEL not in reading.text(pdf)
    assert b"/EmbeddedFile" not in pdf


def test_a_document_that_asks_for_something_fails_as_an_ordinary_refusal_and_the_next_is_drawn():
    def forgetful(snapshot: Any) -> bytes:
        body = snapshot["body"]
        markup = f"<html lang='en'><body>{body}</body></html>"
        return engine.typeset(markup, accent=engine.ACCENT, identifier=b"x")

    engine.warm()
    with Child(draw=forgetful) as child:
        with pytest.raises(RenderFailed, match="it asks for file:///etc/passwd"):
            child.draw({"body": '<img src="file:///etc/passwd"/>'})
        assert child.draw({"body": "<p>fine</p>"}).startswith(b"%PDF")


HOSTILE = {
    "a megabyte of name": "A" * 1_000_000,
    "a megabyte of wide letters": "W" * 1_000_000,
    "20,000 accents": "e" + "\u0301" * 20_000,
    "an accent on every letter": "e\u0301\u0302\u0303\u0304\u0305\u0306" * 5_000,
    "nothing but spaces": " \n\t\u00a0" * 5_000,
    "controls": "".join(chr(code) for code in range(32)) * 100,
    "turned around": "\u202e\u2066gnp.ecnalab\u202c" * 50,
    "lone surrogates": "\ud800\udfff" * 100,
    "not characters": "\ufffe\uffff\ufdd0" * 100,
    "line separators": "a\u2028b\u2029c\u0085d" * 100,
    "emoji families": "👨‍👩‍👧‍👦🏳️‍🌈" * 200,
    "chinese": "深圳市潮汐影像有限公司" * 60,
    "arabic": "شركة المد والجزر للتصوير" * 40,
    "thai without spaces": "บริษัทน้ำขึ้นน้ำลงจำกัด" * 60,
    "soft hyphens": "a\u00ad" * 5_000,
    "zero width": "a\u200b\u200c\u200d\ufeff" * 5_000,
    "templates": "{{ text }}{% include 'x' %}{0}{seller[iban]}%s%n" * 30,
    "markup": "</td></tr></table><script>alert(1)</script>" * 30,
    "entities": "&lt;&amp;&#0;&#x110000;&nosuch;" * 60,
    "quotes": "\"'>--><!--]]><![CDATA[" * 60,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_in_every_field_is_drawn_within_the_limits(text):
    with Child() as child:  # its limits are the bound: 30 s of processor, 512 MB
        assert child.draw(_everywhere(text)).startswith(b"%PDF")
        assert child.draw(snapshots.credit_note()).startswith(b"%PDF")


@pytest.mark.parametrize(
    "change",
    [
        {"lines": [snapshots.line(1, "x", quantity="1e999999")]},
        {"lines": [snapshots.line(1, "x", quantity="NaN", net="NaN")]},
        {"lines": [{"position": "x"}]},
        {"credits": {"from": "x"}},
        {"seller": None},
        {"language": 7},
        {"currency": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_snapshot_of_the_wrong_shape_is_refused_in_plain_words(change):
    with Child() as child:
        with pytest.raises(RenderFailed, match=r"cannot be drawn|do not add up"):
            child.draw(snapshots.invoice(**change))
        assert child.draw(snapshots.credit_note()).startswith(b"%PDF")


@pytest.mark.slow
def test_two_thousand_lines_end_within_the_limits():
    with Child(limits=Limits(wall_seconds=200)) as child:  # a busy machine is slow
        pdf = child.draw(snapshots.long_invoice(2_000))
    assert "1,000 further lines" in reading.text(pdf)
