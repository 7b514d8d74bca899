"""Turns: taken one after another, counted from the second, and failures told."""

import sys

import pytest

from vargfacenet.bench import contest_report, draw, matrix_share, operator_table, rounds, table, take_turns
from vargfacenet.bench.contests import Contest
from vargfacenet.bench.rounds import Contender, Outcome, peak_memory, rate


@pytest.fixture
def contender(tmp_path):
    """Makes a contender that runs some lines in its turn; `count` is the number of its turns before."""

    def make(name, lines="pass", **fields):
        path = tmp_path / f"{name}.py"
        path.write_text(
            "import os, sys\ncount = 0\n"
            "def prepare(**options):\n"
            "    def turn():\n"
            "        global count\n"
            f"        {lines}\n"
            "        count += 1\n"
            "        return {'items': 10, 'count': count, 'options': options}\n"
            "    return turn\n"
        )
        return Contender(name, str(path), **fields)

    return make


def test_all_take_turns_and_the_first_is_not_counted(contender, tmp_path):
    path = tmp_path / "order.txt"
    lines = "open(options['path'], 'a').write(options['name'])"
    both = [contender(name, lines, options={"path": str(path), "name": name}) for name in "ab"]
    outcomes = take_turns(both, rounds=2)
    assert path.read_text() == "ababab"
    for outcome in outcomes:
        assert outcome.failure is None
        assert [turn["count"] for turn in outcome.turns] == [2, 3]
        assert all(turn["seconds"] > 0 for turn in outcome.turns)


def test_where_memory_is_short_one_contender_lives_at_a_time(contender, monkeypatch):
    monkeypatch.setattr(rounds, "free_memory", lambda: 0)
    outcomes = take_turns([contender("a"), contender("b")], rounds=2)
    for outcome in outcomes:
        assert outcome.failure is None
        assert [turn["count"] for turn in outcome.turns] == [2, 2]  # each after one that is not counted


def test_what_a_contender_prints_does_not_disturb(contender):
    (outcome,) = take_turns([contender("loud", "print('noise'); os.system('echo noise')")], rounds=1)
    assert outcome.failure is None
    assert len(outcome.turns) == 1


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        ("count == 1 and os.kill(os.getpid(), 11)", "SIGSEGV: no message"),
        ("count == 1 and sys.exit('too small')", "exit status 1: too small"),
        ("1 / (1 - count)", "exit status 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_is_told_and_the_others_go_on(contender, lines, failure):
    outcomes = take_turns([contender("bad", lines), contender("good")], rounds=2)
    assert outcomes[0].failure == failure
    assert outcomes[0].turns == []
    assert len(outcomes[1].turns) == 2


def test_a_python_that_is_not_there_is_a_failure(contender):
    (outcome,) = take_turns([contender("a", python="/no/such/python")], rounds=1)
    assert "/no/such/python" in outcome.failure


def test_environment_is_set_and_unset(contender, monkeypatch):
    monkeypatch.setenv("UNWANTED", "1")
    lines = "assert os.environ['WANTED'] == '2' and 'UNWANTED' not in os.environ"
    (outcome,) = take_turns([contender("a", lines, environment={"WANTED": "2", "UNWANTED": None})], rounds=1)
    assert outcome.failure is None


def test_memory_is_that_of_the_contender(contender):
    small, large = take_turns([contender("small"), contender("large", "b'x' * (200 << 20)")], rounds=1)
    assert 180 < peak_memory(large) - peak_memory(small) < 220


def outcome(name, seconds, **more):
    return Outcome(name, [{"items": 10, "seconds": each, "peak_bytes": 2**20, **more} for each in seconds], None)


def test_ratios_are_taken_round_by_round():
    # A machine that halves its speed in the second and third rounds halves both.
    first, second = outcome("a", [1, 2, 2]), outcome("b", [3, 6, 5])
    report = contest_report(Contest("title", "images/s", []), [first, second])
    assert report["rows"][1]["first_is_faster"] == 3
    assert rate(first) == report["rows"][0]["median"] == 5
    assert table(report)[1][1] == ["b", "2", "1.67 - 3.33", "3.00 x"]


def test_a_time_is_given_per_item_and_a_failure_in_words(tmp_path):
    failed = Outcome("b", [], "SIGSEGV: no message")
    report = contest_report(Contest("title", "ms", []), [outcome("a", [1, 1, 4]), failed])
    assert report["rows"][0]["median"] == 100
    assert table(report)[1][1] == ["b", "-", "failed: SIGSEGV: no message", ""]
    draw([report], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_all_are_compared_with_the_quickest_baseline():
    outcomes = [outcome("a", [1, 2, 1]), outcome("slow", [9, 9, 9]), outcome("quick", [4, 4, 4])]
    failed = Outcome("fails", [], "SIGSEGV: no message")
    contest = Contest("title", "ms", [], ("slow", "quick", "fails"))
    report = contest_report(contest, [*outcomes, failed])
    assert report["baseline"] == "quick"
    assert [row.get("times_baseline") for row in report["rows"]] == [4, pytest.approx(4 / 9), 1, None]
    headers, rows = table(report)
    assert headers[-1] == "against quick"
    assert [row[-1] for row in rows] == ["4.00 x", "0.44 x", "1.00 x", ""]
    assert "baseline" not in contest_report(contest, [outcomes[0], failed])


def test_a_profile_is_summed_by_operator():
    spent = {"Convolution": 3000, "_backward_Convolution": 5000, "BatchNorm": 2000}
    report = contest_report(Contest("title", "images/s", []), [outcome("a", [1], microseconds=spent)])
    (row,) = report["rows"]
    assert matrix_share(row) == pytest.approx(0.8)
    assert operator_table(row, shown=1)[1] == [["_backward_Convolution", "5.0", "50.0%"], ["2 others", "5.0", "50.0%"]]


def test_contenders_run_in_this_python_by_default(contender):
    assert contender("a").python == sys.executable
