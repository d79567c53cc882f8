#!/usr/bin/env bash
# The main job from nothing: sets up .venv, adapts to a few labelled scans, segments the others, writes the report.
#
#     bash tools/demo.sh                      the synthetic phantom, which needs no data
#     bash tools/demo.sh --data hippocampus   real scans, from the folder that MEDFM3D_DATA names
#
# Further arguments go to `medfm3d demo`; see `medfm3d demo --help`.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/environment.sh" ""
exec "$venv/bin/medfm3d" demo "$@"
