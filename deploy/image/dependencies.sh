#!/bin/sh
# `sh dependencies.sh LOCK` (in a Dockerfile's build stage): /opt/venv holds what the lock file names and nothing else.
set -eu
lock="$(dirname "$0")/$1.txt"
python -m venv /opt/pip # stays behind with the stage: no pip in the image
python -m venv --without-pip /opt/venv
install() { /opt/pip/bin/pip --disable-pip-version-check --python /opt/venv/bin/python install --no-compile "$@"; }

# Wheels only: no package's build script is run.
install --only-binary :all: --no-deps --require-hashes --requirement "$lock"
case "$1" in *-gpu) install --no-deps --requirement "$(dirname "$0")/tensorrt.txt" ;; esac

# Packages' own tests: a tenth of the files, and nobody imports them.
find /opt/venv -type d \( -name tests -o -name test \) -path '*/site-packages/*' -prune -exec rm -rf {} +
