# Sourced by demo.sh and test.sh: makes .venv in the repository and installs what is asked for, once per change of
# pyproject.toml. Usage: source environment.sh EXTRAS   (comma-separated extras of pyproject.toml, may be empty)
#
# Only torch is pinned here: without a pin pip would take whatever release is newest that day.
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$repository/.venv"
extras="${1:-}"
stamp="$venv/.medfm3d-$(printf '%s' "$extras" | tr ',' '-')"

# The stamp holds what was installed from: another pyproject.toml or a moved checkout installs anew.
wanted="$repository $(cksum "$repository/pyproject.toml" "$repository/tools/environment.sh" | cut -d' ' -f1 | tr '\n' ' ')"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    echo "setting up $venv"
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        if ! python3 -m venv "$venv"; then
            echo "python3 -m venv failed: install Python's venv module (Debian: apt-get install python3-venv)" >&2
            exit 1
        fi
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==2.14.1" "torchvision==0.29.1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$repository${extras:+[$extras]}"
    printf '%s' "$wanted" >"$stamp"
fi
export PATH="$venv/bin:$PATH"
