"""The application: its paths, what each takes and returns, and the life of the model's threads. Only `serve.py` imports it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

import emotion
from emotion.errors import DataError
from emotion.serving.answering import Answer, Answerer, Question
from emotion.serving.batching import Batcher, QueueFullError
from emotion.serving.guard import Guard
from emotion.serving.limits import MAX_EXPLANATIONS, Limits
from emotion.serving.metrics import Metrics
from emotion.serving.page import format_page
from emotion.serving.requests import ExplainBody, Options, PredictBody, check_text, list_texts, read_body
from emotion.text import encode_json

RETRY_SECONDS = "1"
PAGE_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "referrer-policy": "no-referrer"}


class Service:
    """One model, its batches and its counts, behind the paths of the application."""

    def __init__(self, answerer: Answerer, limits: Limits) -> None:
        self.answerer, self.limits, self.metrics = answerer, limits, Metrics()
        is_batching = limits.max_batch > 1 and answerer.textwise.is_batching
        size, wait = (limits.max_batch, limits.max_wait_ms / 1_000) if is_batching else (1, 0.0)
        self.texts = Batcher(self._answer_counted, size, wait, limits.max_queue)
        self.explanations = Batcher(answerer.explain, 1, 0, MAX_EXPLANATIONS)
        self.metrics.watch_queue(lambda: len(self.texts))
        self.metrics.model.info({"model": answerer.model, "backend": answerer.predictor.backend_name, "version": emotion.__version__})
        self.is_stopping, self._tasks = False, list[asyncio.Task[None]]()

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return not self.is_stopping and bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def is_computing(self) -> bool:
        """Whether a thread computes an answer."""
        return self.texts.is_computing or self.explanations.is_computing

    @asynccontextmanager
    async def run(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer while the application lives."""
        self._tasks = [asyncio.create_task(batcher.run()) for batcher in (self.texts, self.explanations)]
        yield
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def predict(self, request: Request) -> Response:
        """Return labels and probabilities of one text, or of a list of texts in their order."""
        body = read_body(await read_json(request), PredictBody)
        texts = list_texts(body, self.limits)
        questions = self._list_questions(texts, body)
        answers = await self.texts.submit(questions)
        records = [self._build_record(q, answer, body, body.probabilities) for q, answer in zip(questions, answers, strict=True)]
        return respond(records[0] if body.text is not None else {"answers": records})

    async def explain(self, request: Request) -> Response:
        """Return the answer to one text, with the contribution of each word to the logit of each predicted label."""
        body = read_body(await read_json(request), ExplainBody)
        check_text(body.text, "text", self.limits)
        questions = self._list_questions([body.text], body)
        (answer,) = await self.explanations.submit(questions)
        return respond(self._build_record(questions[0], answer, body, True))

    async def health(self) -> Response:
        """Return whether the server is ready for requests: 200, or 503 while it stops."""
        content = {"live": True, "ready": self.is_ready, "model": self.answerer.model, "backend": self.answerer.predictor.backend_name}
        return respond(content, 200 if self.is_ready else 503)

    async def live(self) -> Response:
        """Return 200 while the process answers."""
        return respond({"live": True})

    async def show_metrics(self) -> Response:
        """Return the counts in the text format of Prometheus."""
        return Response(self.metrics.format(), headers={"content-type": CONTENT_TYPE_LATEST})

    def _answer_counted(self, questions: list[Question]) -> list[Answer]:
        textwise, metrics = self.answerer.textwise, self.metrics
        before = textwise.num_repeated
        answers = self.answerer.answer(questions)
        metrics.batches.observe(len(questions))
        metrics.texts.inc(len(questions))
        metrics.repeated.inc(textwise.num_repeated - before)
        return answers

    def _list_questions(self, texts: list[str], options: Options) -> list[Question]:
        rule = self.answerer.predictor.rule.with_overrides(options.threshold, options.empty_set)
        return [Question(text, rule) for text in texts]

    def _build_record(self, question: Question, answer: Answer, options: Options, has_probabilities: bool) -> dict[str, Any]:
        record = self.answerer.build_record(question, answer, options.top_k)
        return record if has_probabilities else {key: value for key, value in record.items() if key != "probabilities"}


async def read_json(request: Request) -> bytes:
    """Return the body of a request that says it is JSON.

    Raises: HTTPException 415 for another type or a compressed body.
    """
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise HTTPException(415, "send JSON in UTF-8 with the header `Content-Type: application/json`")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not read; send it without Content-Encoding")
    return await request.body()


def respond(content: Any, status: int = 200) -> Response:
    return Response(encode_json(content), status, media_type="application/json")


def build_app(service: Service, token: bytes | None, is_logging: bool = False) -> Guard:
    """Return the ASGI application of a service; with a token, all paths but those of `/health` need it."""
    app = FastAPI(
        title="Emotions in text",
        version=emotion.__version__,
        summary=f"Answers of {service.answerer.model} ({service.answerer.predictor.backend_name}), as `infer.py --json` prints them.",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        telemetry=dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False),
        redirect_slashes=False,
        lifespan=service.run,
    )
    for path, endpoint, model in (("/predict", service.predict, PredictBody), ("/explain", service.explain, ExplainBody)):
        schema = {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}
        app.post(path, openapi_extra={"requestBody": schema}, responses=describe_errors())(endpoint)
    app.get("/health")(service.health)
    app.get("/health/live")(service.live)
    app.get("/metrics")(service.show_metrics)

    async def show_page() -> HTMLResponse:
        return HTMLResponse(format_page(app.openapi()), headers=PAGE_HEADERS)

    app.get("/docs", include_in_schema=False)(show_page)
    app.add_exception_handler(DataError, answer_data_error)
    app.add_exception_handler(QueueFullError, answer_full_queue)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_failure)
    return Guard(app, service.limits, token, service.metrics, is_logging)


async def answer_data_error(_: Request, error: Exception) -> Response:
    return respond({"error": str(error)}, 400)


async def answer_full_queue(_: Request, __: Exception) -> Response:
    answer = respond({"error": "too many texts are waiting; try again later"}, 503)
    answer.headers["retry-after"] = RETRY_SECONDS
    return answer


async def answer_http_error(_: Request, error: HTTPException) -> Response:
    answer = respond({"error": error.detail}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def answer_failure(_: Request, __: Exception) -> Response:
    return respond({"error": "internal error; the server's log says where"}, 500)


def describe_errors() -> dict[int | str, dict[str, Any]]:
    """Return what each status of an error means, for the OpenAPI document."""
    meanings = {
        400: "The body is not valid JSON in UTF-8, or has another key, type or text than allowed.",
        401: "The token is missing or wrong.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is not declared as JSON in UTF-8, or is compressed.",
        503: "Too many texts are waiting, or the answer took too long; `Retry-After` says when to try again.",
    }
    return {status: {"description": f'{meaning} `{{"error": "..."}}`'} for status, meaning in meanings.items()}
