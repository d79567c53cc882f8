#!/usr/bin/env bash
# All checks from nothing: sets up .venv, then style, layers and tests. Arguments go to pytest.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/environment.sh" "label,nnunet,test"
cd "$repository"
ruff check .
ruff format --check .
lint-imports
# Each worker computes on one core; torch would otherwise start as many threads as there are cores in each of them.
OMP_NUM_THREADS=1 exec python -m pytest -n "$(nproc)" --dist loadfile "$@"
