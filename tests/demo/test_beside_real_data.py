"""An installation with data of its own is left as it is."""

import pytest
from django.core.management import call_command

from accounts.models import User
from billing import demo
from billing.errors import MissingData
from billing.models import LegalEntity
from config.management.commands.quickstart import Command
from tests.demo.conftest import AT


class Listener:
    """Stands in for the supervisor and keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def real_seller(db) -> LegalEntity:
    return LegalEntity.objects.create(
        code="TI", name="Real", legal_name="Real", country="IE", currency="EUR"
    )


def test_quickstart_adds_no_demonstration_to_real_data(real_seller):
    site = Listener()
    assert Command()._fill(site, new_passwords=False) is None  # type: ignore[arg-type]
    assert "data of its own" in site.said[-1]
    assert not demo.exists()


def test_a_real_seller_of_the_same_code_is_left_alone(real_seller):
    with pytest.raises(MissingData, match="seller code TI"):
        demo.create(AT)
    assert not demo.exists()
    assert not User.objects.filter(is_demo=True).exists()


def test_the_command_says_when_there_is_nothing(db, capsys):
    call_command("remove_demo", "--yes")
    assert "nothing to remove" in capsys.readouterr().out
