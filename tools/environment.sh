# Sourced by demo.sh and test.sh: makes .venv in the repository and installs what is asked for, once per change of
# pyproject.toml. Usage: source environment.sh EXTRAS   (comma-separated extras of pyproject.toml, may be empty)
#
# Only torch is pinned here: without a pin pip would take whatever release is newest that day.
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$repository/.venv"
extras="${1:-}"
stamp="$venv/.medfm3d"

# The stamp says what was installed from, and which extras: another pyproject.toml or a moved checkout installs anew, and
# so does an extra that is not there yet.
wanted="$repository $(cksum "$repository/pyproject.toml" "$repository/tools/environment.sh" "$repository/tools/vendor_niivue.py" | cut -d' ' -f1 | tr '\n' ' ')"
there=""
complete=no
if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$wanted" ]; then
    complete=yes
    there="$(tail -n 1 "$stamp")"
    for extra in ${extras//,/ }; do
        case ",$there," in
            *",$extra,"*) ;;
            *) complete=no ;;
        esac
    done
fi
if [ "$complete" = no ]; then
    # Extras that are there already stay: without them in the same call pip might choose other versions for them.
    all="$(printf '%s\n' ${there//,/ } ${extras//,/ } | sort -u | paste -sd, -)"
    echo "setting up $venv"
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        if ! python3 -m venv --clear "$venv"; then
            echo "python3 -m venv failed: install Python's venv module (Debian: apt-get install python3-venv)" >&2
            exit 1
        fi
    fi
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==2.14.1" "torchvision==0.29.1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$repository${all:+[$all]}"
    printf '%s\n%s\n' "$wanted" "$all" >"$stamp"
fi
export PATH="$venv/bin:$PATH"
