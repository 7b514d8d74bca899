"""``vargfacenet bench``: what it prints is what it writes."""

import json

from vargfacenet.commands import main


def test_bench_prints_a_table_and_writes_json(capsys, tmp_path):
    network = ["--set", "multiplier=0.25", "units=1,1,1", "embedding_size=16"]
    path = tmp_path / "bench.json"
    sizes = ["--batch-size", "2", "--rounds", "2", "--updates", "1"]
    assert main(["bench", "train", "vargfacenet", *network, *sizes, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert [speed["tier"] for speed in report["speeds"]][-2:] == ["basic", "stock"]
    for speed in report["speeds"]:
        assert f"{speed['images_per_second']:.1f}" in printed
        assert len(speed["rounds"]) == 2
    assert report["processor"] in printed


def test_bench_refuses_no_rounds(capsys):
    assert main(["bench", "train", "--rounds", "0"]) == 2
    assert "--rounds=0: expected between 1 and" in capsys.readouterr().err
