"""`serve.py` in a process of its own, with no packages but those of the container: its messages, its end, and what it leaves unanswered."""

import http.client
import importlib.util
import json
import re
import runpy
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement

from emotion.text import encode_json
from tests.conftest import ROOT, run_script, start_script
from tests.serving.test_container import list_packages

TOKEN = "a-token-of-this-test"
NUM_REQUESTS = 24
TEXTS = [f"I love this, number {number}! " + "It broke again and nobody helps. " * 5 for number in range(2 * NUM_REQUESTS)]
RUN = """
import importlib.abc, json, runpy, sys
allowed = set(json.loads(sys.argv.pop(1)))

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {name!r}: not in the container", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
sys.path[0] = ""
runpy.run_path("serve.py", run_name="__main__")
"""


def list_modules(packages):
    """Return the modules that are importable where only these packages, and what they require, are installed."""
    found, waiting = set(), [normalize(name) for name in packages]
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        found.add(name)
        requirements = map(Requirement, requires(name) or ())
        waiting += [normalize(r.name) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    modules = [module for module, owners in packages_distributions().items() if found & set(map(normalize, owners))]
    return [*sys.stdlib_module_names, "emotion", *modules]


def normalize(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def wait_for_address(script):
    out, err = script.outputs
    deadline = time.monotonic() + 120
    while script.poll() is None and not out.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)  \(ready after [\d.]+ s; stop with Ctrl-C\)\n", out.read_text())
    assert found, out.read_text() + err.read_text()
    return int(found[1])


def ask(port, path, body=None, token=TOKEN):
    """Return status, headers and content of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request("POST" if body else "GET", path, body, headers)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read().decode()


def count_sent(port):
    """Return the number of requests to /predict that were answered with 200 or are in flight."""
    counts = ask(port, "/metrics")[2]
    values = re.findall(r'^(?:emotion_requests_in_flight|emotion_requests_total\{path="/predict",status="200"\}) (.*)$', counts, re.M)
    return sum(map(float, values)) - 1  # this one


@pytest.mark.slow
def test_sigterm_with_requests_in_flight_loses_none():
    """Texts that take seconds together, so that requests are in flight when the signal comes."""
    model = "models/goemotions-minilm"
    options = ["--model", model, "--port", "0", "--log-requests"]
    packages = json.dumps(list_modules(list_packages()))
    script = start_script("-c", RUN, packages, "serve.py", *options, EMOTION_SERVE_TOKEN=TOKEN, PYTHONDONTWRITEBYTECODE="1")
    port = wait_for_address(script)
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(garbage)
    assert ask(port, "/predict", json.dumps({"text": TEXTS[0]}), token="another-token-here")[0] == 401
    large = ask(port, "/predict", b'{"text": "' + b"x" * 10_000_000 + b'"}')  # the whole answer arrives, though the body is not kept
    assert large[0] == 413 and json.loads(large[2])["error"].startswith("body: is larger than")
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        bodies = [json.dumps({"texts": TEXTS[start : start + 2]}) for start in range(0, len(TEXTS), 2)]
        waiting = [pool.submit(ask, port, "/predict", body) for body in bodies]
        while count_sent(port) < NUM_REQUESTS:
            time.sleep(0.01)
        num_answered = sum(future.done() for future in waiting)
        script.send_signal(signal.SIGTERM)
        answers = [future.result() for future in waiting]
    assert script.wait(30) == 0
    assert [status for status, *_ in answers] == [200] * NUM_REQUESTS
    expected = run_script("infer.py", "--json", "--model", model, *TEXTS).stdout.splitlines()
    found = [encode_json(answer) for *_, content in answers for answer in json.loads(content)["answers"]]
    assert found == expected and len(expected) == len(TEXTS)
    assert num_answered < NUM_REQUESTS / 2 <= sum(headers.get("connection") == "close" for _, headers, _ in answers)
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/health")
    out, err = (path.read_text() for path in script.outputs)
    assert (
        err.startswith(f"model: {model} (numpy)\nbatches: each text is predicted alone: numpy is not faster with several\n")
        and err.count("POST /predict 200 ") == NUM_REQUESTS
    )
    assert "Traceback" not in err and "I love this" not in out + err and TOKEN not in out + err


@pytest.mark.parametrize(("signals", "status", "ending"), [([signal.SIGTERM], 0, ""), ([signal.SIGINT] * 2, 130, "interrupted\n")])
def test_the_end_does_not_wait_for_an_answer_that_never_comes(signals, status, ending):
    """Of the two requests, the first has timed out; a second Ctrl-C does not wait for the other one either."""
    code = (
        "import runpy, sys, threading, emotion.serving.answering as answering\n"
        "answering.explain = lambda *_: threading.Event().wait()\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path('serve.py', run_name='__main__')"
    )
    options = ["serve.py", "--model", "models/goemotions-minilm", "--port", "0", "--timeout", "1"]
    script = start_script("-c", code, *options, PYTHONDONTWRITEBYTECODE="1")
    port = wait_for_address(script)
    assert ask(port, "/explain", b'{"text": "a"}')[0] == 503
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /explain HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
        connection.sendall(b'Content-Length: 13\r\n\r\n{"text": "a"}')
        for number in signals:
            time.sleep(0.2)  # a signal that comes twice at once is one
            script.send_signal(number)
        assert script.wait(30) == status
    assert script.outputs[1].read_text().partition("several\n")[2] == ending


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "runs/gone"], "runs/gone: no such folder"),
        (["--port", "70000"], "--port 70000: must be from 0 to 65535"),
        (["--host", "not a host"], "--host not a host: is no address of this machine; 127.0.0.1 is for this machine only, 0.0.0.0 for all"),
        (["--max-batch", "0"], "--max-batch 0: must be from 1 to 1,000,000"),
        (["--token-file", "gone"], "--token-file gone: cannot be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = run_script("serve.py", *arguments)
    errors = result.stderr.splitlines()
    assert result.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_script("serve.py", "--port", str(port))
    assert result.returncode == 2 and result.stderr.startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there (")
    assert result.stderr.endswith("choose another --port or --host\n") and result.stderr.count("\n") == 1


def test_without_its_packages_one_line_says_how_to_install_them(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find_spec(name, *more))
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "serve.py"), run_name="__main__")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: the server needs uvicorn, not installed: pip install -r requirements-serve.txt\n"


def test_which_addresses_are_beyond_this_machine():
    from emotion.serving.server import is_loopback, name_address, open_socket

    for host, is_local in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with open_socket(host, 0) as listener:
            assert is_loopback(listener) is is_local and re.fullmatch(r"http://[^ ]+:\d+", name_address(listener))
