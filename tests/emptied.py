"""
PostgreSQL databases that are emptied after a test and given to the next, under another name.

To make one takes a server about ten times as long as to empty one.
"""

from __future__ import annotations

import contextlib

import psycopg

# What users make has numbers from here on (FirstNormalObjectId); the schema public is made anew.
_FIRST = 16384
_LEFT = f"""
SELECT (SELECT count(*) FROM pg_class WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_type WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_proc WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_operator WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_cast WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_collation WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_extension WHERE oid >= {_FIRST})
  + (SELECT count(*) FROM pg_event_trigger)
  + (SELECT count(*) FROM pg_publication)
  + (SELECT count(*) FROM pg_foreign_data_wrapper)
  + (SELECT count(*) FROM pg_largeobject_metadata)
  + (SELECT count(*) FROM pg_default_acl)
  + (SELECT count(*) FROM pg_namespace WHERE oid >= {_FIRST} AND nspname <> 'public')
  + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())
"""
_EMPTY = """
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP
    EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', name);
  END LOOP;
  FOR name IN SELECT nspname FROM pg_namespace
    WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
  CREATE SCHEMA public AUTHORIZATION pg_database_owner;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
  EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$
"""


class EmptiedDatabases:
    """
    The PostgreSQL databases of one worker.

    Args:
        server: The URL of the server.
        prefix: What the names of the databases begin with; other workers have another one.
    """

    def __init__(self, server: str, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._count = 0
        self._free: list[str] = []
        self._connection = psycopg.connect(f"{server}/postgres", autocommit=True)

    def take(self) -> str:
        """The name of an empty database that had this name never before."""
        if self._free:
            return self._free.pop()
        name = self._new_name()
        self._connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def give_back(self, name: str) -> None:
        """End whoever still uses it, and empty it; one that cannot be emptied is left alone."""
        renamed = self._new_name()
        with contextlib.suppress(psycopg.Error):
            self._disconnect(name)
            # Whoever outlives its test knows the old name only.
            self._connection.execute(f"ALTER DATABASE {name} RENAME TO {renamed}")
            with psycopg.connect(f"{self._server}/{renamed}", autocommit=True) as connection:
                connection.execute(_EMPTY)
                left = connection.execute(_LEFT).fetchone()
            if left == (0,):
                self._free.append(renamed)

    def _new_name(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def close(self) -> None:
        self._connection.close()

    def _disconnect(self, name: str) -> None:
        self._connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )
