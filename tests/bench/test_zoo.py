"""The zoo: its figures are those counted, and its picture and table show them."""

import json

import pytest

from vargfacenet.bench import zoo as zoo_module
from vargfacenet.bench.published import SETS, ZOO
from vargfacenet.bench.rounds import Outcome
from vargfacenet.bench.zoo import draw_zoo, zoo
from vargfacenet.commands import main
from vargfacenet.errors import SettingError, SetupError
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.complexity import complexity


@pytest.fixture
def timed(monkeypatch):
    """Contenders take 20 ms an image, without being run."""

    def turns(contenders, *, rounds):
        return [
            Outcome(one.name, [{"items": one.options["batches"], "seconds": 0.2}] * rounds, None) for one in contenders
        ]

    monkeypatch.setattr(zoo_module, "take_turns", turns)


def test_entries_are_of_networks_here_and_percentages():
    assert (
        len({entry.title for entry in ZOO}) == len({(entry.network, str(entry.options)) for entry in ZOO}) == len(ZOO)
    )
    for entry in ZOO:
        values = [getattr(entry, name) for name in SETS if getattr(entry, name) is not None]
        assert values
        assert all(88 < value < 100 for value in values)
        assert entry.source


def test_rows_are_counted_and_sorted_by_flops(timed):
    rows = zoo(["mobilefacenet", "shufflefacenet"], rounds=3)
    assert [row.published.title for row in rows] == [
        "ShuffleFaceNet 0.5x",
        "MobileFaceNet y1",
        "ShuffleFaceNet 1.5x",
        "ShuffleFaceNet 2x",
    ]
    assert (rows[0].parameters, rows[0].flops) == (525_510, 66_472_854)  # as counted from the source
    y1 = complexity(get_symbol("mobilefacenet"))
    # The scale of its last BN is fixed.
    assert (rows[1].parameters, rows[1].flops) == (y1.parameters - 128, y1.flops)
    assert [row.milliseconds for row in rows] == pytest.approx([20] * 4)
    assert zoo(["mobilefacenet"])[0].milliseconds is None


def test_a_network_that_cannot_be_measured_is_an_error(monkeypatch):
    monkeypatch.setattr(zoo_module, "take_turns", lambda *_, **__: [Outcome("it", [], "no memory")])
    with pytest.raises(SetupError, match="MobileFaceNet y1 cannot be measured: no memory"):
        zoo(["mobilefacenet"], rounds=1)
    with pytest.raises(SettingError, match="unknown network 'mobilefacnet': did you mean 'mobilefacenet'"):
        zoo(["mobilefacnet"])


def test_a_network_is_measured_in_a_process_of_its_own():
    (row,) = zoo(["mobilefacenet"], rounds=1)
    assert 0.1 < row.milliseconds < 60_000


@pytest.mark.parametrize("accuracy", SETS)
def test_the_plot_is_drawn(timed, tmp_path, accuracy):
    draw_zoo(zoo(["mobilefacenet", "mobilefacenet_y2"], rounds=1), tmp_path / "zoo.png", accuracy=accuracy)
    assert (tmp_path / "zoo.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_and_writes(timed, tmp_path, capsys):
    files = ["--plot", str(tmp_path / "zoo.png"), "--json", str(tmp_path / "zoo.json")]
    assert main(["zoo", "mobilefacenet", "--measure", *files]) == 0
    assert "20.0" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("MobileFaceNet y1"))
    (row,) = json.loads((tmp_path / "zoo.json").read_text())
    assert row["published"]["agedb"] == 96.07
    assert row["published"]["source"]
    assert main(["zoo", "mobilefacenet", "--markdown", str(tmp_path / "zoo.md")]) == 0
    assert (tmp_path / "zoo.md").read_text().splitlines()[-1].startswith("| MobileFaceNet y1 | ")
    capsys.readouterr()
    assert main(["zoo", "--accuracy", "lfv"]) == 2
    assert "unknown set 'lfv': did you mean 'lfw'" in capsys.readouterr().err
