"""Run the suite in every supported Python of this machine and print a table: ``python3 tests/pythons.py [3.9 3.13 ...]``.

Each Python gets an environment of its own in ``build/pythons/``, made by ``install.sh``. Pythons are looked for on the
path and under pyenv; a path may be given in the place of a version. Needs nothing but Python's own library.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSIONS = [f"3.{minor}" for minor in range(9, 15)]


def find_pythons():
    """Return the path of a Python that starts for each supported version that is found."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in VERSIONS:
        for candidate in [f"python{version}", *newest_first(pyenv.glob(f"{version}.*/bin/python"))]:
            if version_of(candidate) == version:
                found[version] = candidate
                break
    return found


def newest_first(paths):
    """Return pyenv's Pythons of one version as text, the newest release first."""
    numbers = {str(path): [int(part) for part in re.findall(r"\d+", path.parts[-3])] for path in paths}
    return sorted(numbers, key=numbers.get, reverse=True)


def version_of(python):
    """Return the version of a Python, such as "3.13"; None where it does not start."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def run(version, python, arguments):
    """Install into an environment of the version and run the suite there; return the row of the table."""
    folder = ROOT / "build" / "pythons" / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{version}.log"
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        install = subprocess.run(
            ["./install.sh", str(folder), python], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        ).returncode
        if install == 0:
            parallel = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
            suite = [str(folder / "bin" / "python"), "-m", "pytest", *parallel, *arguments]
            environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
            status = subprocess.run(suite, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    if install:
        return version, "cannot be installed", "", "", f"see {log}"
    versions = subprocess.run(
        [str(folder / "bin" / "python"), "-c", "import numpy, cv2; print(numpy.__version__, cv2.__version__)"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if re.search(r"\d+ passed|\d+ failed", line)]
    counts = re.sub(r" in .*|=", "", lines[-1]).strip() if lines else f"ended with status {status}, see {log}"
    return version, counts, versions, f"{(time.monotonic() - begin) / 60:.1f}", "" if status == 0 else f"see {log}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", help="versions such as 3.13, or paths; all that are found by default")
    parser.add_argument("--pytest", default="", help="arguments for pytest, as in --pytest=-x")
    args = parser.parse_args()
    found = find_pythons()
    chosen = {}
    for name in args.pythons or found:
        python = found.get(name, os.path.abspath(name) if os.sep in name else name)
        version = version_of(python)
        if version not in VERSIONS:
            parser.error(f"{name} is not a Python {VERSIONS[0]} to {VERSIONS[-1]}; found: {', '.join(found) or 'none'}")
        chosen[version] = python
    if not chosen:
        parser.error(f"no Python {VERSIONS[0]} to {VERSIONS[-1]} is found")
    rows = []
    for number, (version, python) in enumerate(chosen.items(), 1):
        sys.stderr.write(f"Python {version} ({number} of {len(chosen)}): {python}\n")
        rows.append(run(version, python, args.pytest.split()))
    header = ("Python", "tests", "NumPy, OpenCV", "minutes", "")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n")
    return any(row[-1] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
