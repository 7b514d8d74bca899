#!/bin/sh
# Make a virtual environment with the locked packages and this project: install.sh FOLDER [PYTHON]
set -eu
folder=$1
chosen=${2:-}

fail() {
  echo "install: error: $1" >&2
  exit 2
}

say() {
  echo "install: $1"
}

supported() { # a Python that starts, and that the lock file is for
  "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

has_venv() {
  "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

if [ -n "$chosen" ]; then
  supported "$chosen" || fail "PYTHON=$chosen is not a Python 3.9 to 3.14"
else
  for candidate in python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3; do
    if supported "$candidate"; then
      if has_venv "$candidate"; then
        chosen=$candidate
        break
      fi
      without_venv=${without_venv:-$candidate}
    fi
  done
  chosen=${chosen:-${without_venv:-}}
fi
if [ -z "$chosen" ]; then
  found=$(python3 --version 2>&1) || found="no Python at all"
  fail "Python 3.9 to 3.14 is needed, found $found; install one of these, or give PYTHON=/path/to/python3.13"
fi
has_venv "$chosen" || fail "$chosen lacks venv (Debian, Ubuntu: apt-get install python3-venv)"

say "$("$chosen" --version) into $folder"
rm -f "$folder/installed"
"$chosen" -m venv --clear "$folder"
pip() {
  "$folder/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
say "packages, 1.2 GB on disk: one to five minutes"
pip install --no-deps -r requirements/lock.txt || fail "packages could not be installed; see the lines above"
pip install --no-deps --no-build-isolation -e . || fail "the project could not be installed; see the lines above"
say "native operators, compiled once for this processor: about half a minute"
"$folder/bin/vargfacenet" doctor >"$folder/doctor.txt" || {
  cat "$folder/doctor.txt" >&2
  fail "this machine lacks something, see PROBLEM above; then run make install again"
}
touch "$folder/installed"
say "done: $folder/bin/vargfacenet --help"
