"""Names that tell what a column is: words for emotions, columns of raters, and flags that are about something else."""

import re

from emotion.labels import fold_name

GOEMOTIONS = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval disgust embarrassment "
    "excitement fear gratitude grief joy love nervousness optimism pride realization relief remorse sadness surprise neutral"
)
OTHERS = (
    "anticipation trust pessimism happiness happy sad angry afraid scared fearful disgusted surprised hate hatred hope hopeful worry "
    "worried anxiety anxious stress boredom bored enthusiasm fun empty shame ashamed guilt guilty contempt awe interest serenity "
    "contentment content calm calmness frustration frustrated irritation rage envy jealousy jealous loneliness lonely nostalgia "
    "compassion sympathy empathy pity sorrow despair regret delight ecstasy terror horror apprehension aggression submission pleasure "
    "pain satisfaction dissatisfaction triumph craving contemplation doubt distress longing tenderness thankfulness thanks "
    "gratefulness grateful affection acceptance vigilance loathing amazement pensiveness distraction remorseful proud excited "
    "embarrassed annoyed confused curious disappointed amused nervous relieved optimistic pessimistic loving impressed prepared "
    "confident trusting faithful sentimental nostalgic furious terrified devastated apprehensive anticipating joyful caution humor "
    "sarcasm irony offensive positive negative none other others emotionless "
)
EMOTION_NAMES = frozenset(f"{GOEMOTIONS} {OTHERS}".split())
"""The labels of GoEmotions, Ekman, Plutchik, SemEval-2018, CrowdFlower and EmpatheticDialogues, and adjectives of them."""
RATER_COLUMN_NAMES = ("rater_id", "rater", "annotator_id", "annotator", "worker_id", "workerid", "worker", "coder_id", "coder", "judge_id")
UNCLEAR_COLUMN = re.compile(r"(example_)?(very_)?unclear")
"""A flag of GoEmotions' raw files: the rater could not judge the text."""


def is_emotion_name(name: str) -> bool:
    """Return whether a column is named like an emotion: `joy`, `Joy`, `emotion_joy`, `no emotion`."""
    key = re.sub(r"[\W_]+", " ", fold_name(name)).strip()
    key = re.sub(r"^(emotion|emo|label|no|is) | (label|score|intensity)$", "", key)
    return key in EMOTION_NAMES or key == "emotion"


def find_rater_column(columns: list[str]) -> str | None:
    """Return the column that tells which person labelled a row, or None."""
    return next((column for name in RATER_COLUMN_NAMES for column in columns if fold_name(column).replace(" ", "_") == name), None)


def is_unclear_column(column: str) -> bool:
    """Return whether a column marks the rows that a rater could not judge."""
    return UNCLEAR_COLUMN.fullmatch(fold_name(column).replace(" ", "_")) is not None
