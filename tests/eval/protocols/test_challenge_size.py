"""The challenge at its own size: exact, and in little memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

from vargfacenet.bench import pairing
from vargfacenet.eval.features import read_features

ROWS, OTHERS, IDENTITIES, FAR = 1_862_120, 5_000, 4_000, 1e-8

SCORE = """
import json, resource, sys, time
import numpy as np
from vargfacenet.eval.features import read_features
from vargfacenet.eval.protocols.all_pairs import score_all_pairs
first, second = (read_features(path) for path in sys.argv[1:3])
labels = [np.arange(len(rows)) % int(sys.argv[3]) for rows in (first, second)]
before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time()
found = score_all_pairs(first, labels[0], second, labels[1], fars=(float(sys.argv[4]),))
rate = found.rates[0]._asdict()
seconds = time.time() - begin
status = open("/proc/self/status").read().split()
anonymous = int(status[status.index("RssAnon:") + 1])
print(json.dumps({**rate, "same": found.same, "different": found.different, "seconds": seconds, "KiB": anonymous}))
"""


@pytest.mark.slow
def test_it_equals_a_count_in_float64(tmp_path):
    contest = pairing(rows=ROWS, others=OTHERS, folder=tmp_path, identities=IDENTITIES, far=FAR)
    files = [contest.contenders[0].options[name] for name in ("features", "others")]
    done = subprocess.run(
        [sys.executable, "-c", SCORE, *files, str(IDENTITIES), str(FAR)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(done.stdout)
    assert found["same"] + found["different"] == ROWS * OTHERS
    allowed = int(FAR * found["different"])
    above, at_least, same_above = count_in_float64(*map(read_features, files), found["threshold"])
    assert above == found["accepted_different"] <= allowed < at_least
    assert same_above == found["accepted_same"]
    assert found["tar"] == same_above / found["same"]
    assert found["KiB"] < 1 << 20


def count_in_float64(first, second, threshold):
    """Count pairs of different identities above a threshold, and at or above it; pairs of one identity above it."""
    unit = second[:].astype(np.float64)
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T.copy()
    others = np.arange(unit.shape[1]) % IDENTITIES
    above = at_least = same_above = 0
    for begin in range(0, len(first), 2048):
        rows = first[begin : begin + 2048].astype(np.float64)
        scores = (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ unit
        row, column = np.nonzero(scores > threshold - 1e-9)
        kept = np.round(scores[row, column], 12)
        same = (begin + row) % IDENTITIES == others[column]
        above += int((kept[~same] > threshold).sum())
        at_least += int((kept[~same] >= threshold).sum())
        same_above += int((kept[same] > threshold).sum())
    return above, at_least, same_above
