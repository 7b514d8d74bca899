"""The image of a run shows what its files say."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from vargfacenet.formats.images import decode_image
from vargfacenet.train.curves import Curves, Panel, _draw_panel, curves_of, draw_curves, draw_runs
from vargfacenet.train.generation_folder import Generation
from vargfacenet.train.run import Result


def generation(out, losses, accuracies):
    """A generation of four updates with a line of log every two."""
    out.mkdir(parents=True)
    lines = [{"update": 2 * n, "loss": loss, "cosine": 0.5} for n, loss in enumerate(losses, 1)]
    (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scores = {update: {"lfw": {"accuracy": accuracy}} for update, accuracy in zip((0, 4), accuracies)}
    return Generation(out, scores, 4)


def test_generations_follow_one_another(tmp_path):
    first = generation(tmp_path / "generation-1", [9.0, 8.0], [0.5, 0.7])
    second = generation(tmp_path / "generation-2", [7.0, 6.0], [0.7, 0.8])
    measures, scores, ends = curves_of([first, second])
    assert measures == {"loss": ([2, 4, 6, 8], [9.0, 8.0, 7.0, 6.0]), "cosine": ([2, 4, 6, 8], [0.5] * 4)}
    assert scores == {"lfw": ([0, 4, 4, 8], [0.5, 0.7, 0.7, 0.8])}
    assert ends == [4, 8]


def test_an_image_is_drawn_with_and_without_verification(tmp_path):
    one = generation(tmp_path / "run", [9.0, 8.0], [0.5, 0.7])
    sizes = []
    for generations, teacher in (([one], {"lfw": {"accuracy": 0.9}}), ([one._replace(verifications={})], None)):
        path = draw_curves(Result(tmp_path / "run", 4, 1.0, generations, teacher))
        image = decode_image(path.read_bytes(), "curves", shape=None)
        assert image.shape[1] > 2 * image.shape[0] > 400
        sizes.append(np.count_nonzero(image < 128))
    assert sizes[0] > sizes[1] > 0


@pytest.mark.parametrize(
    ("label", "values", "scale"),
    [
        ("identity loss", [107.0, 1.7], "log"),
        ("loss", [9.0, 8.0], "linear"),
        ("loss", [107.0, 0.0], "linear"),
        ("cosine", [0.9, 0.01], "linear"),
    ],
)
def test_losses_of_a_wide_range_have_a_logarithmic_axis(label, values, scale):
    axes = Figure().subplots()
    _draw_panel(Panel(label, {"": ([1, 2], values)}, {}), axes)
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == label


def test_runs_share_one_legend_and_losses_come_first(tmp_path, monkeypatch):
    drawn = []

    class Recorded(Figure):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            drawn.append(self)

    monkeypatch.setattr("vargfacenet.train.curves.Figure", Recorded)
    measures = {"accuracy": ([1, 2], [0.1, 0.2]), "loss": ([1, 2], [3.0, 2.0])}
    draw_runs({"one": Curves(measures, {}, []), "two": Curves({}, {"lfw": ([1], [0.5])}, [])}, tmp_path / "runs.png")
    (figure,) = drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert [axes.get_legend() for axes in figure.axes] == [None] * 3
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy", "accuracy on lfw"]
