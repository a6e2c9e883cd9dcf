"""`manage.py quickstart` with real processes, from an empty place to a login."""

import contextlib
import http.cookiejar
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.platform.sites import BASE_DIR, all_gone, manage, plain_environment, until
from tests.platform.sites import Site as ServedSite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(280),
    pytest.mark.xdist_group("services"),
]
LOGIN = re.compile(r"^  (demo-\w+) +(\S+) ", re.MULTILINE)


class Site(ServedSite):
    """`manage.py quickstart` as a process."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.output = state.parent / "quickstart.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "quickstart"],
                cwd=BASE_DIR,
                env=plain_environment(state, PORT="0"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        found = re.search(r"ready after \d+ s: (http://\S+)", self.text)
        assert found, self.text
        return found[1]

    def wait_ready(self) -> "Site":
        until(lambda: "Stop with" in self.text or self.process.poll() is not None, 200)
        assert self.process.poll() is None, self.text
        return self


def log_in(url: str, name: str, password: str) -> str:
    """The page a person lands on."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = browser.open(f"{url}login/", timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token, page[:2000]
    form = {"username": name, "password": password, "csrfmiddlewaretoken": token[1], "next": "/"}
    with browser.open(f"{url}login/", urllib.parse.urlencode(form).encode(), timeout=30) as answer:
        assert "/login/" not in answer.url
        return answer.read().decode()


def test_from_nothing_to_a_login_and_back(tmp_path):
    state = tmp_path / "state"
    site = Site(state)
    try:
        site.wait_ready()
        logins = dict(LOGIN.findall(site.text))
        assert set(logins) == {"demo-finance", "demo-clerk", "demo-auditor", "demo-manager"}
        for name, password in logins.items():
            log_in(site.url, name, password)
        assert list((state / "documents").rglob("*.pdf"))

        second = manage(state, "quickstart", PORT="0")
        assert second.returncode != 0
        assert "already running" in second.stderr
        assert "Traceback" not in second.stderr

        everyone = site.everyone()
        assert site.stop(signal.SIGINT) == 0
        until(lambda: all_gone(everyone), 20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            site.process.kill()
        site.process.wait(60)

    again = manage(state, "quickstart", "--no-serve", timeout=200)
    assert again.returncode == 0, again.stderr
    assert set(dict(LOGIN.findall(again.stdout)).values()) == {"(password"}
    assert "Making demonstration data" not in again.stdout

    removed = manage(state, "remove_demo", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert not list((state / "documents").rglob("*.pdf"))

    anew = manage(state, "quickstart", "--no-serve", timeout=200)
    assert anew.returncode == 0, anew.stderr
    assert "Making demonstration data" in anew.stdout
    assert "(password" not in anew.stdout
