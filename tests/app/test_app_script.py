"""`app.py` from the command line: its address, its messages, Ctrl-C, and what is left behind."""

import re
import signal
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from emotion.app.server import CONTENT_SECURITY_POLICY
from emotion.app.theme import COLOR_OF, DARK, LIGHT, build_style, build_theme
from emotion.evaluation.document import STYLE
from tests.conftest import find_free_port, run_script, start_script

NAMES = {"ink", "soft", "paper", "line", "band", "link"}


@pytest.mark.slow
def test_app_serves_until_interrupted_and_leaves_nothing(tiny_run, tmp_path):
    script = start_script("app.py", "--model", str(tiny_run), "--port", str(find_free_port()), TMPDIR=str(tmp_path))
    out, err = script.outputs
    deadline = time.monotonic() + 60
    while script.poll() is None and not out.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    address = re.match(r"(http://127\.0\.0\.1:\d+/)  \(ready after [\d.]+ s; stop with Ctrl-C\)\n", out.read_text())
    assert address, out.read_text() + err.read_text()
    with urllib.request.urlopen(address[1]) as answer:
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        page = answer.read().decode()
    assert "Emotions in text" in page and not re.findall(r'<(?:script|link)[^>]+(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)', page)
    assert err.read_text() == f"model: {tiny_run} (numpy)\n"
    script.send_signal(signal.SIGTERM)  # SIGINT is ignored where the tests run in the background
    assert script.wait(30) == 0 and "Traceback" not in err.read_text()
    assert list(Path(tmp_path).glob("emotion-app-*")) == [] and tempfile.gettempdir() != str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "runs/gone"], "--model runs/gone: no such folder"),
        (["--port", "70000"], "--port 70000: must be from 1 to 65535"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = run_script("app.py", *arguments)
    errors = result.stderr.splitlines()
    assert result.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}")


def test_a_port_that_is_taken_is_one_line(tiny_run, served):
    result = run_script("app.py", "--model", str(tiny_run), "--port", served.rstrip("/").rpartition(":")[2])
    assert (
        result.returncode == 2
        and "is taken, or not open to you; choose another --port" in result.stderr
        and "Traceback" not in result.stderr
    )


def test_colors_and_fonts_are_those_of_the_report():
    pytest.importorskip("gradio")
    assert set(LIGHT) == set(DARK) == NAMES and set(COLOR_OF.values()) == NAMES
    theme = build_theme()
    assert theme.body_background_fill == LIGHT["paper"] and theme.body_background_fill_dark == DARK["paper"]
    assert theme._stylesheets == [] and theme.font in STYLE.replace('"', "")
    assert all(f"--{name}: {LIGHT[name]}" in build_style() and f"--{name}: {DARK[name]}" in build_style() for name in NAMES)
