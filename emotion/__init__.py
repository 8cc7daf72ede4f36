"""Multi-label emotion detection from text.

    import emotion

    model = emotion.load("runs/demo")
    model.predict_labels(["Thank you so much!"])  # [["gratitude"]]

Importing the package imports nothing else: numpy, torch and the rest are imported by the first call that needs them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotion.api import Model, load
    from emotion.errors import ConfigError, DataError, EmotionError, ModelError
    from emotion.inference.explanation import Explanation
    from emotion.scoring.batch import BatchOptions, BatchScorer

__version__ = "0.1.0"
"""The only place of the version: `pyproject.toml` reads it from here."""
__all__ = ["BatchOptions", "BatchScorer", "ConfigError", "DataError", "EmotionError", "Explanation", "Model", "ModelError", "load"]

_MODULES = {
    "BatchOptions": "emotion.scoring.batch",
    "BatchScorer": "emotion.scoring.batch",
    "Explanation": "emotion.inference.explanation",
    "Model": "emotion.api",
    "load": "emotion.api",
}
"""Module of each public name; the errors are in `emotion.errors`."""

if not TYPE_CHECKING:  # a type checker uses the imports above, and reports any other name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES.get(name, "emotion.errors")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
