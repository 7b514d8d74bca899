"""Fuzz readers, each in a process of its own, guided by the coverage of this project's code: see ``make fuzz``."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

MEMORY, SECONDS_A_RUN = 4096, 20  # limits: MiB of a process, seconds for one input

say = sys.stdout.write


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="of tests/fuzz/targets.py; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each (default 60)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        fuzz(args.targets[0], args.seconds)
    else:
        from tests.fuzz.targets import TARGETS

        unknown = [name for name in args.targets if name not in TARGETS]
        if unknown:
            parser.error(f"unknown target {unknown[0]!r}: there are {', '.join(TARGETS)}")
        sys.exit(max([watch(name, args.seconds) for name in args.targets or TARGETS]))


def watch(name, seconds):
    """Run one target and report the result; return 0, or 1 where it found something."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--one", "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    said = done.stdout
    runs, peak = (re.findall(pattern, said) for pattern in (r"Done (\d+) runs", r"peak_rss_mb:\s+(\d+)"))
    if done.returncode == 0 and runs:
        say(f"{name:10} {int(runs[-1]):9,} inputs in {seconds} s, {peak[-1] if peak else '?'} MiB: nothing found\n")
        return 0
    say(f"{name:10} FOUND: it ended with status {done.returncode}\n{said[-4000:]}\n")
    return 1


def fuzz(name, seconds):
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["vargfacenet"]):
        from tests.fuzz.targets import TARGETS, attempt
    target = TARGETS[name]
    corpus = pathlib.Path(tempfile.mkdtemp(prefix=f"vargfacenet-corpus-{name}-"))
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    found = pathlib.Path("runs", "fuzz", name)
    found.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "timeout": SECONDS_A_RUN,
        "rss_limit_mb": MEMORY,
        "max_len": 1 << 16,
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [name, *(f"-{option}={value}" for option, value in options.items()), str(corpus)],
        lambda content: attempt(target, content),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
