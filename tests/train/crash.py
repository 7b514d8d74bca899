"""Kills a small training again and again with SIGKILL, resuming it each time: ``python -m tests.train.crash --kills 100``.

Prints what it did as JSON. `trained` is what each process runs: ``python -m tests.train.crash --train OUT DATA BINS``.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import mxnet as mx

from tests.helpers.training import parameters, tiny

CONFIG = {  # with dropout in it, saved often, and verified
    "network": "resnet18",
    "units": (1, 1, 1, 1),
    "multiplier": 0.125,
    "max_updates": 120,
    "save_every": 5,
    "verify_every": 12,
    "log_every": 1,
}
FLUSH = 0.002  # seconds that a flush to disk takes at least, so that saves are hit as they would be on a slow disk
STEPS = ("before the first save", "outside of saves", "write of a file", "between files of a save")


def config(**settings):
    given = {**CONFIG, **settings}
    return tiny(**{name: value for name, value in given.items() if name != "use_se"}, use_se=None)


def trained(out, data, bins, **settings):
    """Trains, or goes on where there is something to go on from."""
    from vargfacenet.train.run import train
    from vargfacenet.train.run_folder import Resume

    flush = os.fsync

    def slow(descriptor):
        time.sleep(random.uniform(FLUSH, 3 * FLUSH))
        flush(descriptor)

    os.fsync = slow
    train(config(**settings), data=data, out=out, bins=[bins], resume=Resume())


def unbroken(out, data, bins, settings=None):
    """The training whose end the killed ones must reach: a process as theirs, left alone."""
    process = _start(out, data, bins, settings)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed


def crash(out, data, bins, kills, *, seed=0, settings=None):
    """Kills trainings in folders below `out` until there were `kills`, each gone on with until it is done.

    Returns
    -------
    dict
        ``kills``; ``runs`` that came to their end; ``killed in``, how many of the kills came where (`STEPS`); and ``lost
        updates``, the most that one kill cost.
    """
    generator = random.Random(seed)
    counts, runs, done, lost = collections.Counter(), [], 0, 0
    while done < kills or not _is_done(runs[-1], settings):
        if not runs or _is_done(runs[-1], settings):
            runs.append(pathlib.Path(out) / f"run-{len(runs)}")
        process = _start(runs[-1], data, bins, settings)
        if done >= kills:
            assert process.wait(timeout=600) == 0, process.stdout.read()
            continue
        # A tenth of them anywhere from the start, a third when a file is seen being written, the rest during updates.
        aim = generator.random()
        if aim < 0.1:
            time.sleep(generator.uniform(0.0, 4.0))
        else:
            began = _wait_for_updates(process)
            until = time.monotonic() + generator.uniform(0.0, 1.0)
            while began and time.monotonic() < until:
                time.sleep(0.001)
            while began and aim < 0.45 and process.poll() is None and not _writing(runs[-1], process.pid):
                time.sleep(0.0005)
            time.sleep(generator.uniform(0.0, 4 * FLUSH))
        if process.poll() is not None:  # it came to its end before
            assert process.returncode == 0, process.stdout.read()
            continue
        process.kill()
        process.wait()
        done += 1
        counts[_place(runs[-1], process.pid)] += 1
        lost = max(lost, check(runs[-1]))
        sys.stderr.write(f"kill {done}: {dict(counts)}\n")
    return {"kills": done, "runs": len(runs), "killed in": dict(counts), "lost updates": lost}


def check(out):
    """Asserts that what a kill left can be gone on from, and that its checkpoints are whole; gives the updates lost."""
    from vargfacenet.formats.checkpoint import load_checkpoint
    from vargfacenet.train.run_log import read_log
    from vargfacenet.train.training_state import TrainingStates

    states = TrainingStates(out)
    for update in states.updates():
        assert states.read(update).update == update
    for name in ("latest", "best"):
        if (out / f"{name}-0000.params").exists():
            load_checkpoint(out / name, 0)
            mx.model.load_checkpoint(str(out / name), 0)
    logged = read_log(out) if (out / "log.jsonl").exists() else []
    return max([line["update"] for line in logged], default=0) - max(states.updates(), default=0)


def _start(out, data, bins, settings):
    given = ["--settings", json.dumps(settings or {})]
    command = [sys.executable, "-m", "tests.train.crash", "--train", str(out), str(data), str(bins), *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)


def _wait_for_updates(process):
    """Waits until a training has made an update; false where it ended before."""
    return any(": update " in line or ":update " in line for line in iter(process.stdout.readline, ""))


def _writing(out, pid):
    return any(out.glob(f".*.{pid}.tmp")) or any(out.glob(f"states/.*.{pid}.tmp"))


def _place(out, pid):
    if _writing(out, pid):
        return STEPS[2]
    halves = {path.stem for path in out.glob("states/*.params")} - {path.stem for path in out.glob("states/*.json")}
    newest = max(out.glob("states/*.json"), default=None)
    latest = out / "latest-0000.params"
    if halves or (newest and (not latest.exists() or newest.stat().st_mtime_ns > latest.stat().st_mtime_ns)):
        return STEPS[3]
    return STEPS[1] if newest else STEPS[0]


def _is_done(out, settings):
    from vargfacenet.train.training_state import TrainingStates

    return max(TrainingStates(out).updates(), default=0) == config(**(settings or {})).max_updates


def main():
    from tests.helpers.images import image
    from vargfacenet.data.writer import write_records
    from vargfacenet.eval import write_pairs
    from vargfacenet.formats.images import encode_jpeg

    parser = argparse.ArgumentParser()
    parser.add_argument("--train", nargs=3)
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.train:
        import logging

        logging.basicConfig(level=logging.INFO)
        trained(*map(pathlib.Path, args.train), **json.loads(args.settings))
        return
    with tempfile.TemporaryDirectory() as folder:
        folder, begin = pathlib.Path(folder), time.monotonic()
        write_records(folder / "faces", ((i, encode_jpeg(image(i, n))) for i in range(4) for n in range(6)))
        images = [encode_jpeg(image(index % 4, 50 + index)) for index in range(80)]
        write_pairs(folder / "pairs.bin", images, [index % 2 == 0 for index in range(40)])
        data, bins = folder / "faces", folder / "pairs.bin"
        unbroken(folder / "whole", data, bins)
        result = crash(folder, data, bins, args.kills, seed=args.seed)
        result["runs that differ"] = count_different(folder, result["runs"])
        result["minutes"] = round((time.monotonic() - begin) / 60, 1)
    sys.stdout.write(json.dumps(result) + "\n")


def count_different(folder, runs):
    """How many runs have another number in their last state or checkpoints than the unbroken one (int)."""
    from vargfacenet.train.training_state import TrainingStates

    def all_arrays(out):
        state = TrainingStates(out).newest().load_arrays()
        found = {name: value.asnumpy().tobytes() for name, value in state.items()}
        for name in ("latest", "best"):
            found.update({f"{name} {key}": value.tobytes() for key, value in parameters(out, name).items()})
        return found

    whole = all_arrays(folder / "whole")
    return sum(all_arrays(folder / f"run-{number}") != whole for number in range(runs))


if __name__ == "__main__":
    main()
