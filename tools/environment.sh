#!/bin/sh
# Make the virtual environment that `make demo`, `make test`, `make lint` and `make benchmark` run in.
#
#     sh tools/environment.sh FOLDER
#
# Needs a Python of 3.10 to 3.13 with its venv module, and nothing else. PYTHON=/path/to/python chooses one; otherwise
# the first fitting python3, python3.13, ... python3.10 on the PATH is taken. pip runs with the machine's own settings.
set -eu

folder=$1
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'

say() { printf '%s\n' "$*" >&2; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c "$fits" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    say "error: no Python of 3.10 to 3.13 found (looked for: ${PYTHON:-python3, python3.13 ... python3.10});" \
        "install one, or name it: make PYTHON=/path/to/python"
    exit 1
}

# An environment that was left half-made, or whose Python has gone or does not fit, is made again.
if ! "$folder/bin/python" -c "$fits" >/dev/null 2>&1 || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making $folder with $("$python" --version 2>&1)"
    if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
        say "error: $folder is there and is no virtual environment; move it away"
        exit 1
    fi
    if ! trouble=$("$python" -m venv --clear "$folder" 2>&1); then
        say "error: $python cannot make a virtual environment: its venv or ensurepip module is missing;" \
            "on Debian and Ubuntu: apt install python3-venv"
        say "$trouble"
        exit 1
    fi
fi

say "installing the toolkit and what it needs (PyTorch is large: some minutes the first time)"
# pip shows what it downloads where somebody watches, and is silent in a log.
if [ -t 2 ]; then quiet=; else quiet=--quiet; fi
"$folder/bin/python" -m pip install $quiet --editable ".[test,lint]" >&2

# opencv-python needs libGL, which slim containers lack; the two wheels overwrite each other, so both go first.
if ! "$folder/bin/python" -c 'import cv2' >/dev/null 2>&1; then
    say "OpenCV cannot be loaded, as where libGL is missing: swapping in opencv-python-headless"
    "$folder/bin/python" -m pip uninstall --quiet --yes opencv-python opencv-python-headless >&2
    "$folder/bin/python" -m pip install $quiet opencv-python-headless >&2
    "$folder/bin/python" -c 'import cv2'
fi

say "compiling the hot loops of selective search, of the networks and of the evaluation (once)"
for module in proposals.warmup detector.nets.warmup detector.evaluation.warmup; do
    "$folder/bin/python" -m "$module"
done
