"""Networks that come with the package, trained here; each has a card, ``models/NAME.md``, and a licence of their own.

Wherever a model is asked for, by a command or by `vargfacenet.formats.checkpoint.load_checkpoint`, their names may be given.
"""

import functools
import json
import pathlib
from typing import NamedTuple, Optional

FOLDER = pathlib.Path(__file__).resolve().parent
LICENCE = FOLDER / "LICENSE"


class BundledModel(NamedTuple):
    """A checkpoint that comes with the package.

    ``threshold`` is the cosine above which two faces are taken for one identity, with the false accept rate ``far`` on the
    pairs that ``threshold_set`` names. ``accuracy`` is LFW's by the lineage's protocol, 0 .. 1.
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
        """The prefix of its files; the epoch is 0."""
        return FOLDER / self.name

    @property
    def card(self) -> pathlib.Path:
        """The file that says what it was trained on, how good it is, and what it must not be used for."""
        return FOLDER / f"{self.name}.md"

    def metadata(self) -> dict[str, str]:
        """Return its threshold, named as in the metadata of an exported ONNX file."""
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


def find_model(name: object) -> Optional[BundledModel]:
    """Return the bundled network of a name; None for another name, and where a checkpoint of that prefix is at hand."""
    model = _facts().get(str(name))
    if model is not None and pathlib.Path(f"{name}-symbol.json").exists():
        return None
    return model
