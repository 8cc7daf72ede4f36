"""Read the body of a request: strict JSON in UTF-8, known keys and types, and texts that `infer.py` would take."""

import json
from typing import Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion.errors import DataError
from emotion.serving.limits import Limits
from emotion.text import describe_error, escape_controls, is_writable_text

MAX_SHOWN = 200
"""Characters of a message: keys are the client's words."""


class Options(BaseModel):
    """The options of `infer.py`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    top_k: int | None = Field(None, ge=1, le=1_000_000, description="Number of labels with a probability in the answer; all by default.")
    threshold: float | None = Field(None, gt=0, lt=1, description="One threshold for all labels in place of the fitted ones.")
    empty_set: Literal["none", "top1"] | None = Field(
        None, description="Labels of a text with no label above its threshold: none, or the most likely one."
    )


class PredictBody(Options):
    """One `text`, or a list of `texts`."""

    text: str | None = Field(None, description="A text; the answer is one object.")
    texts: list[str] | None = Field(None, description='Texts; the answer is {"answers": [...]} in their order.', min_length=1)
    probabilities: bool = Field(True, description="Whether the answer has probabilities.")


class ExplainBody(Options):
    """One `text`."""

    text: str = Field(description="The text to explain.")


Body = TypeVar("Body", bound=Options)


def read_body(body: bytes, model: type[Body]) -> Body:
    """Return the parsed body.

    Raises: DataError, one line, if it is not UTF-8, not JSON, or has other keys or types.
    """
    try:
        value: Any = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise DataError(f"body: not valid UTF-8 ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise DataError("body: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise DataError(f"body: not valid JSON ({escape_controls(describe_error(error))})") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "body"
        message = f"{escape_controls(where)[:MAX_SHOWN]}: {fault['msg']}"
        raise DataError(f"{message}; allowed are {', '.join(model.model_fields)}") from None


def list_texts(body: PredictBody, limits: Limits) -> list[str]:
    """Return the texts of a body.

    Raises: DataError if it has not exactly one of `text` and `texts`, or too many, or one that cannot be answered.
    """
    if (body.text is None) == (body.texts is None):
        raise DataError("body: needs text or texts, and not both")
    texts = [body.text] if body.text is not None else body.texts or []
    if len(texts) > limits.max_texts:
        raise DataError(f"texts: got {len(texts):,}, at most {limits.max_texts:,} are answered in a request; send several requests")
    for number, text in enumerate(texts):
        check_text(text, "text" if body.text is not None else f"texts[{number}]", limits)
    return texts


def check_text(text: str, where: str, limits: Limits) -> None:
    """Raise DataError for a text that is empty, too long or not valid UTF-8; the message does not quote it."""
    if not text.strip():
        raise DataError(f"{where}: is empty; leave it out")
    if len(text) > limits.max_characters:
        raise DataError(f"{where}: has {len(text):,} characters, at most {limits.max_characters:,} are answered; shorten it")
    if not is_writable_text(text):
        raise DataError(f"{where}: is not valid UTF-8; leave the broken characters out")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
