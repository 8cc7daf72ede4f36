"""The page: its components, and which method of `Handlers` answers each event. The only module with the theme that knows Gradio."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import gradio as gr

from emotion.app.handlers import Handlers, describe_failure
from emotion.app.html_answers import CHOOSE_LABEL
from emotion.app.results import ScoredFile
from emotion.app.scored_files import OUTPUT_FORMATS, PROBABILITIES, ScoringOptions
from emotion.app.thresholds import MAX_SENSITIVITY
from emotion.data.reading.formats import READERS

TITLE = "Emotions in text"
SUBTITLE = "A text can carry several emotions, or none."
PRIVATE = "Nothing that you type leaves this server."
SHARED = "What you type and the files that you drop pass through a server of Gradio, which made this public link."
INPUT_FORMATS = ", ".join(name.removeprefix(".") for name in READERS)
PLACEHOLDER = "Write something …"
NO_FILE_YET = '<p class="hint">Drop a file with one text in each row. Every row comes back with its emotions.</p>'
EXAMPLES = {
    "Thanks": "Thank you so much, you saved my day!",
    "Sarcasm": "I can't believe they cancelled it again. Typical.",
    "Worry": "My hands are shaking, the results come tomorrow.",
    "Mixed": "I'm so proud of you, and I will miss you terribly.",
    "Neutral": "The meeting is at ten in room four.",
}
ANSWER, EXPLAIN, FILES = "answer", "explain", "files"
"""Queues: a text never waits for a file."""
CONCURRENT_ANSWERS = 4
"""Texts that are answered at the same time; Gradio's queue takes longer to start the next one than the model to answer."""
TYPING_PAUSE_MS = 250
WAIT_FOR_PAUSE = f"""(...values) => new Promise((resolve) => {{
  clearTimeout(window.typingPause);
  window.typingPause = setTimeout(() => resolve(values), {TYPING_PAUSE_MS});
}})"""
"""Asks for an answer when typing pauses; the earlier promises are dropped without one."""
CHOOSE_ON_CLICK = """
let isOpen = false;
element.addEventListener("click", (event) => {
  const bar = event.target.closest("[data-label]");
  if (!bar) return;
  element.querySelectorAll("[data-label]").forEach((other) => other.setAttribute("aria-pressed", String(other === bar)));
  trigger("click", {label: bar.dataset.label, model: bar.dataset.model});
});
element.addEventListener("toggle", (event) => { isOpen = event.target.open; }, true);
watch("value", () => element.querySelectorAll("details").forEach((details) => { details.open = isOpen; }));
"""
"""Tells Python which bar was clicked, and keeps the folded labels open when a new answer comes."""
SENSITIVITY_HINT = "Left: fewer and surer labels. Right: more and looser ones. 0 is the rule that was fitted on validation rows."


def build_page(handlers: Handlers, is_shared: bool = False) -> Any:
    """Return the Gradio page, with its queue; `is_shared` if it gets a public link of Gradio."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3_600, 86_400)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p class='hint'>{SUBTITLE} {SHARED if is_shared else PRIVATE}</p>")
        names = list(handlers.models)
        with gr.Row(visible=len(names) > 1):
            first = gr.Dropdown(names, value=names[0], label="Model")
            second = gr.Dropdown([("none", ""), *((name, name) for name in names)], value="", label="Beside it")
        with gr.Tabs():
            with gr.Tab("Try"):
                build_try_tab(handlers, first, second, page)
            with gr.Tab("File"):
                build_file_tab(handlers, first)
            with gr.Tab("Model"):
                build_model_tab(handlers, first, page)
        build_api(handlers)
    return page.queue(default_concurrency_limit=2)


def build_try_tab(handlers: Handlers, first: Any, second: Any, page: Any) -> None:
    """Add the text, the answers, the words and the thresholds."""
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            text = gr.Textbox(label="Text", lines=7, max_lines=12, placeholder=PLACEHOLDER, elem_id="text")
            with gr.Row(elem_id="examples"):
                examples = [gr.Button(name, size="sm", min_width=0) for name in EXAMPLES]
        with gr.Column(scale=6, min_width=300):
            answers = gr.HTML(elem_id="answers", js_on_load=CHOOSE_ON_CLICK)
            words = gr.HTML(CHOOSE_LABEL, elem_id="words")
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            sensitivity = build_sensitivity()
            reset = gr.Button("Back to the fitted rule", size="sm")
        with gr.Column(scale=6, min_width=300):
            point = gr.HTML(elem_id="point")
    with gr.Accordion("Precision and recall of each label", open=False):
        labels = gr.HTML(elem_id="label-points")

    def show_words(text: str, event: gr.EventData) -> str:
        return handlers.show_words(text, event.model, event.label)

    inputs, outputs = [text, sensitivity, first, second], [answers, point, labels]
    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    answered = {**options, "concurrency_id": ANSWER, "concurrency_limit": CONCURRENT_ANSWERS, "trigger_mode": "always_last"}
    gr.on([text.change, first.change, second.change], lambda: CHOOSE_LABEL, None, words, queue=False, **options)
    gr.on([sensitivity.change, first.change, second.change, page.load], handlers.show_answers, inputs, outputs, **answered)
    text.change(handlers.show_answers, inputs, outputs, js=WAIT_FOR_PAUSE, **answered)
    for button, example in zip(examples, EXAMPLES.values(), strict=True):
        button.click(lambda example=example: example, None, text, queue=False, **options)
    reset.click(lambda: 0, None, sensitivity, queue=False, **options)
    answers.click(show_words, text, words, concurrency_id=EXPLAIN, concurrency_limit=1, **options)


def build_file_tab(handlers: Handlers, model: Any) -> None:
    """Add the file, its options, the progress and the result."""
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            file = gr.File(label=f"File: {INPUT_FORMATS}", type="filepath", height=140, elem_id="upload")
            column = gr.Dropdown([], label="Column of the texts", elem_id="column")
            output_format = gr.Radio([(name.removeprefix("."), name) for name in OUTPUT_FORMATS], value=".csv", label="Result as")
            probabilities = gr.Radio(
                [("labels only", "none"), ("three likeliest", "3"), ("all", "all")], value="none", label="Probabilities in the result"
            )
            is_excel_safe = gr.Checkbox(label="csv for spreadsheets: put ' before cells that look like formulas")
            sensitivity = build_sensitivity()
            with gr.Row():
                score = gr.Button("Score", variant="primary", elem_id="score")
                stop = gr.Button("Stop", elem_id="stop")
        with gr.Column(scale=6, min_width=300):
            about_file = gr.HTML(NO_FILE_YET, elem_id="about-file")
    files = gr.File(label="Results", file_count="multiple", interactive=False, visible=False, elem_id="results")
    result = gr.HTML(elem_id="result")
    running = gr.State(None)  # the stop of this visitor's job: neither other options nor another visitor change which one it is

    def show_upload(path: str | None, name: str) -> tuple[str, Any, Any, str]:
        shown, columns, guess = handlers.show_upload(path, name)
        return shown or NO_FILE_YET, gr.Dropdown(columns, value=guess), gr.File(None, visible=False), ""

    def run(path: str | None, column: str | None, *chosen: Any) -> Iterator[tuple[str, Any, Event]]:
        *values, name = chosen
        stop = Event()
        for shown, paths in handlers.score_upload(path, ScoringOptions(column, *values), name, stop):
            yield shown, gr.File(paths or None, visible=bool(paths)), stop

    def halt(stop: Event | None) -> None:
        if stop is not None:
            stop.set()

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    inputs = [file, column, output_format, probabilities, is_excel_safe, sensitivity, model]
    file.change(show_upload, [file, model], [about_file, column, files, result], concurrency_limit=2, **options)
    score.click(run, inputs, [result, files, running], concurrency_id=FILES, concurrency_limit=1, **options)
    stop.click(halt, running, None, queue=False, **options)


def build_model_tab(handlers: Handlers, model: Any, page: Any) -> None:
    """Add the card, the scores and the pictures."""
    with gr.Row():
        with gr.Column(scale=6, min_width=300):
            scores = gr.HTML(elem_id="scores")
        with gr.Column(scale=5, min_width=300):
            card = gr.Markdown(elem_id="card")
    labels, figures, comparison = gr.HTML(elem_id="label-scores"), gr.HTML(elem_id="figures"), gr.HTML(elem_id="comparison")
    gr.on(
        [model.change, page.load],
        handlers.show_model,
        model,
        [card, scores, labels, figures, comparison],
        api_visibility="private",
        show_progress="hidden",
    )


def build_sensitivity() -> Any:
    """Return the slider that moves all thresholds."""
    return gr.Slider(-MAX_SENSITIVITY, MAX_SENSITIVITY, value=0, step=0.1, label="Sensitivity", info=SENSITIVITY_HINT, buttons=[])


def build_api(handlers: Handlers) -> None:
    """Add the endpoints for programs: `predict`, `explain` and `score_file`."""

    def predict(text: str, sensitivity: float = 0.0, model: str = "") -> dict[str, Any]:
        """Return the labels, probabilities and thresholds of a text."""
        try:
            return handlers.predict(text, sensitivity, model)
        except Exception as error:
            raise gr.Error(describe_failure(error), print_exception=False) from None

    def explain(text: str, label: str = "", model: str = "") -> dict[str, Any]:
        """Return what each word of a text adds to a label's logit."""
        try:
            return handlers.explain(text, label, model)
        except Exception as error:
            raise gr.Error(describe_failure(error), print_exception=False) from None

    def score_file(
        file: str, text_column: str, output_format: str, probabilities: str, sensitivity: float, model: str
    ) -> tuple[list[str], dict[str, Any]]:
        """Return the scored file, the file of the rows that could not be scored if there are some, and the counts."""
        options = ScoringOptions(text_column or None, output_format, probabilities, False, sensitivity)
        try:
            result = list(handlers.run_job(file, options, model))[-1]
            assert isinstance(result, ScoredFile)  # nobody stops a job of the API
        except Exception as error:
            raise gr.Error(handlers.store.shorten(describe_failure(error)), print_exception=False) from None
        counts = {frequency.name: frequency.count for frequency in result.frequencies}
        return [str(path) for path in result.files], {"num_rows": result.num_rows, "num_bad": result.num_bad, "counts": counts}

    gr.api(predict, api_name="predict", concurrency_id=ANSWER, concurrency_limit=CONCURRENT_ANSWERS)
    gr.api(explain, api_name="explain", concurrency_id=EXPLAIN, concurrency_limit=1)
    with gr.Column(visible=False):
        inputs = [
            gr.File(label="file", type="filepath"),
            gr.Textbox("", label="text_column"),
            gr.Dropdown(list(OUTPUT_FORMATS), value=".csv", label="output_format"),
            gr.Dropdown(list(PROBABILITIES), value="none", label="probabilities"),
            gr.Number(0, label="sensitivity"),
            gr.Textbox("", label="model"),
        ]
        outputs = [gr.File(file_count="multiple"), gr.JSON()]
        gr.Button().click(score_file, inputs, outputs, api_name="score_file", concurrency_id=FILES, concurrency_limit=1)
