"""Networks that come with the package, trained by this project; each has a card, ``models/NAME.md``, and its own licence.

Their names may be given wherever a command or `vargfacenet.formats.checkpoint.load_checkpoint` expects a model.
"""

import functools
import json
import pathlib
from typing import NamedTuple, Optional

FOLDER = pathlib.Path(__file__).resolve().parent
LICENCE = FOLDER / "LICENSE"


class BundledModel(NamedTuple):
    """A checkpoint that comes with the package.

    Two faces whose cosine is above ``threshold`` are taken for one identity; ``far`` is the false accept rate there on the
    pairs that ``threshold_set`` names. ``accuracy`` is that on LFW by the lineage's protocol, 0 .. 1.
    """

    name: str
    summary: str
    embedding_size: int
    accuracy: float
    threshold: float
    far: float
    threshold_set: str

    @property
    def prefix(self) -> pathlib.Path:
        """Prefix of its files; the epoch is 0."""
        return FOLDER / self.name

    @property
    def card(self) -> pathlib.Path:
        """The file that describes its training data, its accuracy, and the uses that it excludes."""
        return FOLDER / f"{self.name}.md"

    def metadata(self) -> dict[str, str]:
        """Return its threshold under the keys of an exported ONNX file's metadata."""
        return {
            "threshold": repr(self.threshold),
            "threshold_far": f"{self.far:g}",
            "threshold_set": self.threshold_set,
        }


@functools.cache
def _facts() -> dict[str, BundledModel]:
    listed = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))
    return {name: BundledModel(name, **facts) for name, facts in listed.items()}


def list_models() -> list[BundledModel]:
    """Return the networks that come with the package, by name."""
    return [_facts()[name] for name in sorted(_facts())]


def default_model() -> BundledModel:
    """Return the most accurate of the networks that come with the package, which commands take where none is named."""
    return max(list_models(), key=lambda model: model.accuracy)


def find_model(name: object) -> Optional[BundledModel]:
    """Return the bundled network of a name; None for another name, or where a checkpoint with that prefix exists."""
    model = _facts().get(str(name))
    if model is not None and pathlib.Path(f"{name}-symbol.json").exists():
        return None
    return model
