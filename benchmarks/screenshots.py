"""Pictures of the page for the documentation: each tab on a desktop and a phone, light and dark.

    python -m benchmarks.screenshots --model runs/NAME [--file emotion/data/sample/test.csv] [--output docs/page]

Needs Playwright (requirements-dev.txt) and a chromium. The pictures are written as PNG files with 256 colors.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from emotion.errors import ConfigError, exit_on_error

VIEWS = {"desktop": (1_120, 900), "phone": (390, 844)}
TEXT = "I'm so proud of you, and I will miss you terribly."
MAX_HEIGHT = 1_400
"""A taller page is cut: the picture shows how it begins."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run folder with a report of its test split")
    parser.add_argument("--file", default="emotion/data/sample/test.csv", help="file to score (default: the bundled test split)")
    parser.add_argument("--output", default="docs/page", help="folder of the pictures (default: docs/page)")
    arguments = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        raise ConfigError("no chromium found; install it, for example with apt-get install chromium")
    from emotion.app.server import prepare_environment, serve

    with tempfile.TemporaryDirectory() as tmp_dir:
        prepare_environment(Path(tmp_dir))
        from emotion.app.models import load_models

        page, address = serve(load_models([arguments.model], "auto"), Path(tmp_dir), "127.0.0.1", None)
        try:
            take_pictures(address, browser_path, Path(arguments.file), Path(arguments.output))
        finally:
            page.close(verbose=False)
    return 0


def take_pictures(address: str, browser_path: str, file: Path, output: Path) -> None:
    """Write one picture of each tab, view and color scheme."""
    from playwright.sync_api import sync_playwright

    output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for view, (width, height) in VIEWS.items():
            for scheme in ("light", "dark"):
                context: Any = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                page.goto(address)
                page.locator("#point dt").first.wait_for()
                for name, show in (("try", show_answer), ("file", show_file), ("model", show_model)):
                    show(page, file)
                    page.wait_for_timeout(400)
                    save(page.screenshot(full_page=True), output / f"{name}-{view}-{scheme}.png")
                context.close()
        browser.close()


def show_answer(page: Any, _: Path) -> None:
    """Answer a text and explain its most probable label."""
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.locator("#answers [data-label]").first.wait_for()
    page.locator("#answers [data-label]").first.click()
    page.locator("#words mark").first.wait_for()


def show_file(page: Any, file: Path) -> None:
    """Score a file."""
    page.get_by_role("tab", name="File").click()
    page.locator("#upload input[type=file]").set_input_files(file)
    page.locator("#about-file table").wait_for()
    page.get_by_role("button", name="Score", exact=True).click()
    page.locator("#result .shares").wait_for(timeout=300_000)


def show_model(page: Any, _: Path) -> None:
    """Show the scores of the model."""
    page.get_by_role("tab", name="Model").click()
    page.locator("#scores table").wait_for()


def save(content: bytes, path: Path) -> None:
    """Write a picture with 256 colors, which look the same and take a third of the bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        cut = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, MAX_HEIGHT)))
        cut.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
