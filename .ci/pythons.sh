#!/usr/bin/env bash
# What depends on the version of Python: the core, sqlite3, the drivers' doors, Django.
# Usage: .ci/pythons.sh FOLDER VERSION   (an absolute path, for the virtual environment)
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  # pyenv puts programs of other versions on PATH that only tell that they are not chosen.
  if "python$1" --version >/dev/null 2>&1; then
    command -v "python$1"
  else
    find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -path "*/versions/$1.*/bin/python" 2>/dev/null | sort -V | tail -n 1
  fi
}

python=$(find_python "$2")
if [ -z "$python" ]; then
  echo "no Python $2 on this machine: neither on PATH nor pyenv's"
  exit
fi
bin=$1/python-$2/bin
"$python" -m venv "$1/python-$2"
"$bin/pip" install -qq --upgrade 'pip>=25.1'
"$bin/pip" install -qq --no-compile '.[all]' --group test
"$bin/python" -m pytest -p no:cacheprovider \
  tests/wire tests/engine tests/join tests/asgi/test_tasks.py \
  tests/doors/test_sqlite.py tests/doors/test_psycopg.py tests/doors/test_asyncpg.py \
  tests/transactions/drivers/test_modes.py tests/transactions/sqlalchemy/test_styles.py \
  tests/django/test_middleware.py tests/django/test_hooks.py
if [ "$2" = 3.14 ]; then
  # As all threads do without the interpreter lock.
  "$bin/python" -X thread_inherit_context=1 -m pytest -p no:cacheprovider \
    tests/engine/test_contexts.py tests/transactions/test_drivers.py
fi
