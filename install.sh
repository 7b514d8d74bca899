#!/bin/sh
# Makes a virtual environment with the pinned packages and this project: install.sh FOLDER [PYTHON]
set -eu
folder=$1
chosen=${2:-}

fail() {
  echo "install: error: $1" >&2
  exit 2
}

runs() { # a Python that starts and is one that MXNet's packages exist for
  "$1" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))' >/dev/null 2>&1
}

if [ -n "$chosen" ]; then
  runs "$chosen" || fail "PYTHON=$chosen is no Python 3.8 to 3.11, which MXNet 1.9.1 needs"
else
  for candidate in python3.11 python3.10 python3.9 python3.8 python3; do
    if runs "$candidate"; then
      chosen=$candidate
      break
    fi
  done
fi
if [ -z "$chosen" ]; then
  found=$(python3 --version 2>&1) || found="no Python at all"
  fail "MXNet 1.9.1 needs Python 3.8 to 3.11, found $found; install one of these, or give PYTHON=/path/to/python3.11"
fi
"$chosen" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$chosen lacks venv (Debian, Ubuntu: apt-get install python3-venv)"

echo "install: $("$chosen" --version) into $folder"
rm -f "$folder/installed"
"$chosen" -m venv --clear "$folder"
pip="$folder/bin/python -m pip --disable-pip-version-check --quiet"
$pip install --no-deps -r requirements.txt || fail "packages could not be installed; see the lines above"
$pip install --no-deps --no-build-isolation -e . || fail "the project could not be installed; see the lines above"
"$folder/bin/vargfacenet" doctor >"$folder/doctor.txt" || {
  cat "$folder/doctor.txt" >&2
  fail "this machine lacks something, see PROBLEM above; then run make install again"
}
touch "$folder/installed"
