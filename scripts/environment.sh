# Sourced by the other scripts: finds Python and makes the virtual environment that they share.
#
# OPSIN_VENV   folder of the environment; by default .venv in the repository
# PYTHON       interpreter to make it with; by default the first of python3, python3.13, ... that is 3.11 or newer

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${OPSIN_VENV:-$root/.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "${0##*/}: $*"
  exit 1
}

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
    if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer was found; install one (Debian: apt install python3 python3-venv), or set PYTHON"
}

# digest FILES: what an environment was made from
digest() {
  "$python" - "$@" <<'PY'
import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(p).read_bytes() for p in sorted(sys.argv[1:]))).hexdigest()[:16])
PY
}

# A folder without pip is what is left when python3-venv is missing, or when the making was interrupted.
make_venv() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
  say "making the environment $venv with $("$python" --version)"
  if ! "$python" -m venv --clear "$venv" >&2; then
    fail "'$python -m venv' failed; on Debian and Ubuntu it needs: apt install python3-venv"
  fi
}

# ready dev: opsin editable, with what tests and checks need. ready docs: editable, with what the site needs. ready demo: opsin
# as a user installs it.
# An environment for dev serves the demo too; each is reused until what it was made from changes.
ready() {
  local kind=$1 stamp=$venv/opsin-environment editable demo
  python=$(find_python)
  editable="$kind $(digest "$root/pyproject.toml") $root"
  demo="demo $(cd "$root" && find src pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cksum | cksum)"
  make_venv
  if [ -f "$stamp" ]; then
    case "$(cat "$stamp")" in
      "$editable") return ;;
      "dev $(digest "$root/pyproject.toml") $root") [ "$kind" = demo ] && return ;;
      "$demo") [ "$kind" = demo ] && return ;;
    esac
    rm "$stamp"
  fi
  say "installing opsin and what it needs (the first time several minutes: PyTorch is large)"
  if [ "$kind" != demo ]; then
    "$venv/bin/python" -m pip install -qq --editable "$root[$kind]" >&2 || fail "pip could not install; see above"
    printf '%s' "$editable" >"$stamp"
  else
    "$venv/bin/python" -m pip install -qq "$root" >&2 || fail "pip could not install; see above"
    printf '%s' "$demo" >"$stamp"
  fi
}
