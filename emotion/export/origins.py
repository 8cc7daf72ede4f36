"""Where a model comes from, as its card names it: data, backbone, licenses, languages. No name is a path on this machine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emotion.config import BASELINE, Config, ModelConfig, find_last_part
from emotion.modeling.backbones import get_base_model_name, is_local
from emotion.modeling.packaged import find_packaged


@dataclass(frozen=True)
class KnownDataset:
    """What the publishers of a dataset say about it."""

    license: str
    languages: tuple[str, ...]
    note: str = ""


SAMPLE = "sample"
KNOWN_DATASETS = {
    SAMPLE: KnownDataset("cc0-1.0", ("en",), " (the bundled corpus of 2,000 synthetic texts)"),
    "google-research-datasets/go_emotions": KnownDataset("apache-2.0", ("en",)),
}
"""By what the card calls the data. Source: `emotion/data/sample/README.md`; the card of the dataset on the Hub."""


@dataclass(frozen=True)
class Origin:
    """What a model was made of; None for what is not known."""

    data: str
    data_note: str
    """What to say about the data after their name."""
    data_license: str | None
    languages: tuple[str, ...]
    backbone: str
    backbone_license: str | None
    license: str | None
    """License of the model itself."""
    base_model: str | None
    """Id of the backbone on the Hub."""

    @property
    def front_matter(self) -> dict[str, Any]:
        """The keys of the card's metadata that name the origin."""
        languages = list(self.languages)
        values: dict[str, Any] = {
            "language": languages[0] if len(languages) == 1 else languages,
            "license": self.license,
            "base_model": self.base_model,
            "datasets": [self.data] if is_hub_id(self.data) else None,
        }
        return {key: value for key, value in values.items() if value}


def find_origin(config: Config) -> Origin:
    """Return what a run's model was made of."""
    data = config.hub.dataset or config.data.title
    known = KNOWN_DATASETS.get(data) if data != SAMPLE or config.data.name == SAMPLE else None  # not any folder of this name
    backbone, is_baseline = config.model.backbone, config.model.backbone == BASELINE
    backbone_license = None if is_baseline else _find_backbone_license(config.model)
    base_model = get_base_model_name(config.model)
    is_on_hub = not is_baseline and not is_local(base_model)
    return Origin(
        data=data,
        data_note=known.note if known else "",
        data_license=known.license if known else None,
        languages=config.hub.language or (known.languages if known else ()),
        backbone=base_model if is_on_hub else find_last_part(backbone),
        backbone_license=backbone_license,
        license=config.hub.license or backbone_license,
        base_model=base_model if is_on_hub else None,
    )


def is_hub_id(name: str) -> bool:
    """Return whether a name can be the id `USER/NAME` of a repository on the Hub."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def _find_backbone_license(model: ModelConfig) -> str | None:
    """Return the license of a packaged backbone, or what the card in the backbone's folder says; None if it is not known."""
    if (packaged := find_packaged(model.backbone)) is not None:
        return packaged.license
    card = Path(model.backbone).expanduser() / "README.md"
    if not card.is_file():
        return None
    front_matter = re.match(r"---\n(.*?)\n---\n", card.read_text(encoding="utf-8", errors="replace"), re.S)
    try:
        values = yaml.safe_load(front_matter[1]) if front_matter else None
    except yaml.YAMLError:
        return None
    found = values.get("license") if isinstance(values, dict) else None
    return found if isinstance(found, str) else None
