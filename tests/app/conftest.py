"""The page of the tiny run, served in this process, and a browser that may only reach this machine."""

import os
import shutil
from pathlib import Path

import pytest

from emotion.app.models import ServedModel, load_model
from emotion.app.server import prepare_environment, serve

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
AXE = os.environ.get("AXE_CORE", "")
"""Path of `axe.min.js` from the npm package axe-core."""
LOCAL = ("http://127.0.0.1:", "data:", "blob:")
HOSTILE_TEXTS = (
    "<script>alert(1)</script><img src=http://example.com/x.png onerror=alert(2)>",
    "&lt;b&gt; ${value} {{value}} %s {0} \\",
    "😡🔥 so angry 👩‍👩‍👧",
    "أنا سعيد جدا اليوم",
    "\u202egnirts\u202c reversed",
    "=1+1",
    'He said "no", twice\nand left',
    "tab\there",
)


@pytest.fixture(scope="session")
def model(tiny_run: Path) -> ServedModel:
    return load_model(str(tiny_run), "auto")


@pytest.fixture(scope="session")
def served(model: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page with the tiny run and a second name for it."""
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install -r requirements-app.txt")
    folder = tmp_path_factory.mktemp("app")
    prepare_environment(folder)
    other = load_model(model.location, "numpy", "other")
    page, address = serve({model.name: model, "other": other}, folder, "127.0.0.1", None)
    yield address
    page.close(verbose=False)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -r requirements-dev.txt")
    if BROWSER is None:
        pytest.skip("no chromium found")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in a browser, with all that it asked for and all that its console said."""

    def __init__(self, browser, address: str, width: int = 1280, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
        self.page, self.requests, self.errors = self.context.new_page(), [], []
        self.page.set_default_timeout(15_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.locator("#point dt").first.wait_for()

    @property
    def text(self):
        return self.page.get_by_label("Text", exact=True)

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def wait_for_labels(self, labels: list[str]) -> None:
        """Wait until exactly these labels are given, in this order."""
        script = "labels => document.querySelector('#answers section') && JSON.stringify(labels) === "
        script += "JSON.stringify([...document.querySelectorAll('#answers .bar.given')].map(bar => bar.dataset.label))"
        self.page.wait_for_function(script, arg=labels)

    def answer(self, text: str) -> None:
        """Put the first text in, and wait for its answer."""
        self.text.fill(text)
        self.page.locator("#answers [data-label]").first.wait_for()

    def check(self) -> None:
        """Check that nothing was asked of another machine, nothing failed, and nothing is wider than the page."""
        assert len(self.requests) > 5
        assert [url for url in self.requests if not url.startswith(LOCAL)] == []
        assert self.errors == []
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.page.viewport_size["width"]


@pytest.fixture
def visit(browser, served):
    """Return a function that opens the page; every visit is checked at the end."""
    visits = []

    def start(width: int = 1280, scheme: str = "light") -> Visit:
        visits.append(Visit(browser, served, width, scheme))
        return visits[-1]

    yield start
    for opened in visits:
        opened.check()
        opened.context.close()
