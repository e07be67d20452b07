#!/usr/bin/env bash
# install.sh PYTHON TARGET: install TARGET ("." or ".[dev]", editable) into .venv, which is made if it is not there.
#
# uv is used where it is on PATH and its install works, pip else. uv does not read pip's settings, so the index and the
# folders of wheels (find-links) that pip is told to use are handed on to it. Where there is no such folder, uv picks the
# torch build that fits the machine, so that one without a GPU is spared the CUDA libraries.
set -euo pipefail

python=$1
target=$2
constraints=requirements/constraints.txt
venv=.venv/bin/python

# pip_setting NAME: the value of a setting of pip's, from its environment variable or its files; empty if not set
pip_setting() {
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  if [[ -n ${!variable:-} ]]; then
    echo "${!variable}"
  else
    "$python" -m pip config get "global.$1" 2>/dev/null | tr '\n' ' ' || true
  fi
}

find_links=$(pip_setting find-links)

install_with_uv() {
  command -v uv >/dev/null || return 1
  local index
  index=$(pip_setting index-url)
  export UV_FIND_LINKS=${UV_FIND_LINKS:-$(tr -s ' \n' ',' <<<"$find_links" | sed 's/^,//; s/,$//')}
  export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [[ -n $UV_FIND_LINKS ]] || unset UV_FIND_LINKS
  [[ -n $UV_DEFAULT_INDEX ]] || unset UV_DEFAULT_INDEX
  [[ -x $venv ]] || uv venv --quiet --python "$python" .venv || return 1
  local install=(uv pip install --python "$venv" --constraint "$constraints" --editable "$target")
  if [[ -z ${UV_FIND_LINKS:-} && -z ${UV_TORCH_BACKEND:-} && -z ${UV_DEFAULT_INDEX:-} ]]; then
    "${install[@]}" --torch-backend auto && return 0
  fi
  "${install[@]}"
}

install_with_pip() {
  "$venv" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
  local install=("$venv" -m pip install --quiet --disable-pip-version-check --constraint "$constraints")
  "${install[@]}" --editable "$target"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "gaia2 needs Python 3.11 or later; name one, for example: make PYTHON=python3.12" >&2; exit 1; }
echo "installing $target into .venv (a few minutes the first time)"
install_with_uv || install_with_pip
