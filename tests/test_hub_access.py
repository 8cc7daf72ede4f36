"""Where the Hub does not answer, its cache is read at once, and one line says why."""

import time
import urllib.request

import pytest

from emotion import hub
from emotion.config import DataConfig
from emotion.data.reading.finding import find_tables
from emotion.errors import DataError, ModelError
from emotion.modeling.tokenization import load_tokenizer
from tests.conftest import find_free_port

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def endpoint(monkeypatch):
    """The address of a Hub where nobody listens."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    address = f"http://127.0.0.1:{find_free_port()}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    for name in (*PROXIES, *map(str.lower, PROXIES), *hub.OFFLINE_VARIABLES, "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "getproxies", urllib.request.getproxies_environment)
    hub.find_obstacle.cache_clear()
    close_session()
    yield address
    hub.find_obstacle.cache_clear()
    close_session()


def test_a_hub_that_does_not_answer_fails_in_seconds_and_in_one_line(endpoint, capsys):
    """The libraries alone try it eleven times, with 46 seconds of waiting in between."""
    from huggingface_hub import constants

    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            load_tokenizer("someone/name")
        expected = f"someone/name: no such folder, and not in the cache of the Hub ({endpoint} cannot be reached); check the name and"
        assert str(caught.value) == f"{expected} the network, or give a local folder"
    with pytest.raises(DataError, match=rf"cannot be loaded from the Hub \({endpoint} cannot be reached\)"):
        find_tables(DataConfig(source="someone/data"))
    assert time.monotonic() - started < 23  # half of the waiting
    message = capsys.readouterr().err
    assert message.startswith(f"hub: {endpoint} cannot be reached (") and message.count("hub:") == 1
    assert not constants.HF_HUB_OFFLINE  # as it was


@pytest.mark.parametrize("name", hub.OFFLINE_VARIABLES)
def test_offline_is_said(name, endpoint, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv(name, "1")
    with pytest.raises(ModelError, match=rf"not in the cache of the Hub \({name} is set\)"):
        load_tokenizer("someone/name")
    assert capsys.readouterr().err == f"hub: offline, because {name} is set; only its cache is read\n"


def test_a_proxy_is_said_without_its_password(endpoint, monkeypatch, capsys):
    monkeypatch.setenv("HTTP_PROXY", "http://someone:hunter22@127.0.0.1:9")
    assert hub.find_obstacle() == f"{endpoint} through the proxy http://***@127.0.0.1:9 cannot be reached"
    assert "hunter22" not in capsys.readouterr().err
    hub.find_obstacle.cache_clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert hub.find_obstacle() == f"{endpoint} cannot be reached"


def test_a_hub_that_answers_is_not_mentioned(endpoint, monkeypatch, capsys):
    monkeypatch.setattr(hub, "_ask", lambda address: None)
    with hub.read_from_hub() as obstacle:
        assert obstacle is None and capsys.readouterr().err == ""
    hub.find_obstacle.cache_clear()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with hub.read_from_hub() as obstacle:
        assert obstacle is None and capsys.readouterr().err == f"hub: {endpoint} through the proxy http://127.0.0.1:9\n"


def test_other_processes_of_a_launch_say_nothing(endpoint, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert hub.find_obstacle() is not None and capsys.readouterr().err == ""
