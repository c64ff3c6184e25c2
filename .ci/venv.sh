# Makes .venv in this folder with the package and EXTRAS, from nothing but a Python 3.11 or newer.
# Sourced by examples/digits/run and tests/run; does nothing when it is up to date.

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer was not found. Install it: apt-get install python3" >&2
  return 1
}

make_venv() { # EXTRAS, such as "[dev]" or ""
  local stamp python
  stamp="$1 $(cksum <pyproject.toml)"
  if [ -x .venv/bin/automl-remote ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ]; then
    return
  fi
  python=$(find_python)
  echo "Setting up .venv with $($python --version) (once; a few minutes on a slow line)"
  if ! "$python" -m venv .venv >/dev/null 2>&1; then
    rm -rf .venv
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    "$python" -m venv .venv
  fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
  .venv/bin/uv pip install --quiet --python .venv/bin/python -e ".$1"
  echo "$stamp" >.venv/stamp
}
