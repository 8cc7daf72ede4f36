"""The page in a real browser: typing, the slider, files, the model; keyboard, phone, dark; nothing is asked of another machine."""

import csv
import html
import json
import re
import threading
import time
from pathlib import Path

import pytest

from emotion.app.answers import answer_text
from emotion.app.handlers import Handlers
from emotion.app.page import EXAMPLES, PRIVATE, SHARED, build_page
from emotion.app.uploads import UploadStore
from emotion.evaluation.summary import FIGURES
from tests.app.conftest import AXE, HOSTILE_TEXTS, Visit
from tests.app.test_scored_files import write_rows
from tests.conftest import run_script

pytestmark = pytest.mark.slow
TEXT = "Thank you so much, you saved my day!"


def list_given(model, text, sensitivity=0.0):
    answer = answer_text(model, text, sensitivity)
    return [model.predictor.label_set.names[column] for column in answer.order if answer.predictions[column]]


def set_slider(visit, value):
    number = visit.page.get_by_label("number input for Sensitivity").first
    number.fill(str(value))
    number.press("Enter")


def drop_file(visit, path):
    """Drop a file on the page, and wait for what it says about it."""
    visit.open_tab("File")
    visit.page.locator("#upload input[type=file]").set_input_files(path)
    visit.page.locator("#about-file table").wait_for()


def test_typing_gives_the_labels_of_infer(visit, model):
    opened = visit()
    opened.text.press_sequentially(TEXT, delay=15)
    result = run_script("infer.py", "--model", model.location, "--text", TEXT, "--json")
    labels = json.loads(result.stdout)["labels"]
    opened.wait_for_labels(labels)
    assert labels == list_given(model, TEXT) and len(labels) > 0
    answer = answer_text(model, TEXT)
    shown = opened.page.locator("#answers .bar .value").all_text_contents()
    assert shown == [f"{answer.probabilities[column]:.1%}" for column in answer.order] and len(shown) == 28
    assert len([url for url in opened.requests if "queue/join" in url]) <= 8  # two at the start; not one for each of 36 keys


def test_slider_moves_the_thresholds_and_the_button_moves_them_back(visit, model):
    opened = visit()
    opened.answer(TEXT)
    fitted = opened.page.locator("#point dl").inner_text()
    for value in (-3, 3):
        set_slider(opened, value)
        opened.wait_for_labels(list_given(model, TEXT, value))
        opened.page.locator("#point dl", has_text="at the fitted rule").wait_for()
    assert list_given(model, TEXT, -3) != list_given(model, TEXT, 3)
    opened.page.get_by_role("button", name="Back to the fitted rule").click()
    opened.wait_for_labels(list_given(model, TEXT))
    opened.page.wait_for_function("text => document.querySelector('#point dl').innerText === text", arg=fitted)
    opened.page.get_by_role("button", name="Precision and recall of each label").click()
    opened.page.locator("#label-points tbody tr").nth(27).wait_for()


def test_any_text_is_shown_as_text(visit, model):
    opened = visit()
    for text in HOSTILE_TEXTS:
        opened.text.fill(text)
        opened.wait_for_labels(list_given(model, text))
        opened.page.get_by_text("Choose an emotion above").wait_for()
        opened.page.locator("#answers [data-label]").first.click()
        opened.page.locator("#words .text").wait_for()
        shown = re.sub('<span class="unseen">.*?</span>', "", opened.page.locator("#words .text").inner_html())
        assert html.unescape(re.sub("<[^>]*>", "", shown)) == text
        assert opened.page.locator("#words script, #words img, #answers img").count() == 0


def test_ten_thousand_characters(visit):
    opened = visit(width=390)
    text = ("never ending " * 1_000)[:10_000]
    opened.answer(text)
    assert "of 10,000 characters)" in opened.page.locator("#answers").inner_text()


def test_a_text_that_is_too_long_is_not_cut_in_silence(visit):
    opened = visit()
    opened.text.focus()
    opened.page.keyboard.insert_text("never ending " * 800)
    opened.page.get_by_text("text: has 10,400 characters, at most 10,000 are answered; shorten it, or score it in a file").wait_for()
    assert len(opened.text.input_value()) == 10_400 and opened.page.locator("#answers [data-label]").count() == 0


def test_words_of_one_model_are_not_left_beside_another(visit):
    opened = visit()
    opened.answer(TEXT)
    opened.page.locator("#answers [data-label]").first.click()
    opened.page.locator("#words mark").first.wait_for()
    opened.page.get_by_label("Model", exact=True).click()
    opened.page.get_by_role("option", name="other").click()
    opened.page.get_by_text("Choose an emotion above").wait_for()
    assert opened.page.locator("#words mark").count() == 0


def test_a_page_with_a_public_link_does_not_say_that_nothing_leaves_the_server(model, tmp_path):
    for is_shared in (False, True):
        shown = str(build_page(Handlers({"tiny": model}, UploadStore(tmp_path)), is_shared).get_config_file()["components"])
        assert (PRIVATE in shown, SHARED in shown) == (not is_shared, is_shared)


def test_keyboard_alone_explains_a_label(visit, model):
    opened = visit()
    opened.text.focus()
    opened.page.keyboard.type(TEXT)
    opened.wait_for_labels(list_given(model, TEXT))
    bar = opened.page.locator("#answers [data-label]").first
    for _ in range(12):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.dataset.label"):
            break
    opened.page.keyboard.press("Enter")
    opened.page.locator("#words mark").first.wait_for()
    label = bar.get_attribute("data-label")
    assert f"Words for and against {label}" in opened.page.locator("#words").inner_text()
    assert bar.get_attribute("aria-pressed") == "true"
    assert opened.page.evaluate("document.activeElement.dataset.label") == label  # the focus stays
    opened.text.fill("Another text")
    opened.page.get_by_text("Choose an emotion above").wait_for()


def test_examples_and_two_models_side_by_side(visit, model):
    opened = visit()
    for name, text in EXAMPLES.items():
        opened.page.get_by_role("button", name=name, exact=True).click()
        opened.page.wait_for_function("text => document.querySelector('#text textarea').value === text", arg=text)
        opened.wait_for_labels(list_given(model, text))
    opened.page.get_by_label("Beside it").click()
    opened.page.get_by_role("option", name="other").click()
    opened.page.locator("#answers section").nth(1).wait_for()
    titles = opened.page.locator("#answers h2").all_inner_texts()
    assert titles == ["tiny", "other"]


def test_uploaded_file_comes_back_as_evaluate_writes_it(visit, model, tmp_path):
    path = write_rows(tmp_path / "rows.csv")
    expected = tmp_path / "expected.csv"
    evaluated = run_script("evaluate.py", "--model", model.location, "--input", str(path), "--output", str(expected))
    assert evaluated.returncode == 0, evaluated.stderr
    opened = visit()
    drop_file(opened, path)
    assert "500 rows, of which 1 cannot be read; texts probably in comment" in opened.page.locator("#about-file").inner_text()
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result .shares").wait_for()
    assert (
        "500 rows" in opened.page.locator("#result").inner_text() and "2 could not be scored" in opened.page.locator("#result").inner_text()
    )
    assert opened.page.locator("#result img, #result script").count() == 0
    links = opened.page.locator("#results a[download]")
    contents = []
    for number in range(2):
        with opened.page.expect_download() as download:
            links.nth(number).click()
        contents.append(Path(download.value.path()).read_bytes())
    assert contents[0] == expected.read_bytes()
    quarantine = list(csv.reader(contents[1].decode().splitlines(), delimiter="\t"))
    assert len(quarantine) == 3 and quarantine[1][2] == "empty text"


def test_a_file_that_cannot_be_scored_is_one_line(visit, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    opened = visit()
    opened.open_tab("File")
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.get_by_text("no file: drop one first").wait_for()
    opened.page.locator("#upload input[type=file]").set_input_files(tmp_path / "picture.png")
    opened.page.locator("#about-file .notice").wait_for()
    notice = opened.page.locator("#about-file .notice").inner_text()
    assert notice.startswith("picture.png: unknown format '.png'; allowed are .csv") and "\n" not in notice


def test_texts_are_answered_while_a_file_is_scored(visit, model, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "slow.csv", 100)
    predictor = model.load_file_predictor()
    predict, sizes, is_answered = type(predictor).predict_checked, [], threading.Event()

    def predict_when_answered(self, texts, description=None):
        assert is_answered.wait(60)
        sizes.append(len(texts))
        return predict(self, texts, description)

    monkeypatch.setattr(type(predictor), "predict_checked", predict_when_answered)
    opened = visit()
    drop_file(opened, path)
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result [role=progressbar]").wait_for()
    opened.open_tab("Try")
    opened.answer(TEXT)
    opened.wait_for_labels(list_given(model, TEXT))
    assert sizes == []
    is_answered.set()
    opened.open_tab("File")
    opened.page.locator("#result .shares").wait_for()
    assert len(sizes) == 1


def hold_job(model, monkeypatch, part):
    """Let a job of 10 rows a part wait at its part number `part` until it is stopped; return the sizes of its parts, and the stop."""
    predictor = model.load_file_predictor()
    predict, sizes, is_stopped = type(predictor).predict_checked, [], threading.Event()

    class Stop(threading.Event):
        def set(self):
            super().set()
            is_stopped.set()

    def predict_until_stopped(self, texts, description=None):
        sizes.append(len(texts))
        assert len(sizes) < part or is_stopped.wait(60)
        return predict(self, texts, description)

    monkeypatch.setattr("emotion.app.scored_files.PART_ROWS", 10)
    monkeypatch.setattr("emotion.app.page.Event", Stop)
    monkeypatch.setattr(type(predictor), "predict_checked", predict_until_stopped)
    return sizes, is_stopped


def test_stop_keeps_what_is_done(visit, model, tmp_path, monkeypatch):
    """Also if another result was chosen meanwhile."""
    path = write_rows(tmp_path / "stopped.csv", 90)
    sizes, _ = hold_job(model, monkeypatch, part=3)
    opened = visit()
    drop_file(opened, path)
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result [role=progressbar]", has_text="").wait_for()
    while len(sizes) < 3:
        opened.page.wait_for_timeout(50)
    opened.page.get_by_label("three likeliest").check()
    opened.page.get_by_role("button", name="Stop", exact=True).click()
    opened.page.get_by_text("press Score to go on from there").wait_for()
    assert len(sizes) == 3
    opened.page.get_by_label("labels only").check()
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result .shares").wait_for()
    assert len(sizes) == 9


def test_closing_the_page_stops_its_job(browser, served, model, tmp_path, monkeypatch):
    sizes, is_stopped = hold_job(model, monkeypatch, part=1)
    opened = Visit(browser, served)
    drop_file(opened, write_rows(tmp_path / "closed.csv", 90))
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result [role=progressbar]", has_text="").wait_for()
    while not sizes:
        opened.page.wait_for_timeout(50)
    opened.context.close()
    assert is_stopped.wait(30)
    time.sleep(1)
    assert len(sizes) == 1


def test_model_tab_shows_card_scores_and_pictures(visit, model):
    opened = visit(scheme="dark")
    opened.open_tab("Model")
    opened.page.locator("#scores table").wait_for()
    assert opened.page.locator("#label-scores tbody tr").count() == 28
    pictures = opened.page.locator("#figures img")
    assert pictures.count() == len(FIGURES)
    pictures.last.scroll_into_view_if_needed()
    opened.page.wait_for_function("[...document.querySelectorAll('#figures img')].at(-1).naturalWidth > 100")
    card = opened.page.locator("#card").inner_text()
    assert "Limits" in card and "support" not in card  # its table of labels is beside it


def test_a_card_cannot_make_the_browser_ask_another_machine(visit, model, monkeypatch, tmp_path):
    text = "# Card\n\n![picture](http://127.0.0.2:9/x.png) <img src='http://127.0.0.2:9/y.png'>"
    monkeypatch.setattr("emotion.app.about.read_card", lambda _: text)
    opened = visit()
    opened.open_tab("Model")
    opened.page.get_by_role("heading", name="Card").wait_for()
    opened.page.wait_for_timeout(300)
    refused = [error for error in opened.errors if "Content Security Policy" in error]
    assert (
        refused
        and refused == opened.errors
        and not [url for url in opened.requests if "127.0.0.2" in url and "x.png" not in url and "y.png" not in url]
    )
    opened.errors.clear()
    opened.requests[:] = [url for url in opened.requests if "127.0.0.2" not in url]  # asked for, and refused before the network


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_accessibility(visit, width, scheme, tmp_path):
    if not Path(AXE).is_file():
        pytest.skip("set AXE_CORE to axe.min.js of the npm package axe-core")
    opened = visit(width, scheme)
    opened.answer(TEXT)
    opened.page.locator("#answers [data-label]").first.click()
    opened.page.locator("#words mark").first.wait_for()
    check_with_axe(opened.page)
    opened.open_tab("File")
    opened.page.locator("#upload input[type=file]").set_input_files(write_rows(tmp_path / "axe.csv", 60))
    opened.page.locator("#about-file table").wait_for()
    opened.page.get_by_role("button", name="Score", exact=True).click()
    opened.page.locator("#result .shares").wait_for()
    check_with_axe(opened.page)
    opened.open_tab("Model")
    opened.page.locator("#scores table").wait_for()
    opened.page.wait_for_timeout(300)
    check_with_axe(opened.page)


def check_with_axe(page):
    """Check the open tab against WCAG with axe-core: no finding that it calls serious or critical."""
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    serious = [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert serious == [] and len(found["passes"]) > 15
