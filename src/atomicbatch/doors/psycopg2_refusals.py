"""Why a batch refuses what a handler does by psycopg2, and what to do instead."""

from __future__ import annotations

LISTENING = (
    "a handler listens for notifications (LISTEN), which would come to the batch's own "
    "connection; listen on a connection that is used outside of batches"
)
ASYNCHRONOUS = (
    "a handler uses an asynchronous connection of psycopg2's, which cannot take part in a batch; "
    "use an ordinary one"
)
EARLY = (
    "a handler uses a connection of psycopg2 that was opened before {since}, or by a function of "
    "the app's that takes psycopg2's own class (connection_factory); {first}, or let "
    "psycopg2.connect() open connections"
)
ENCODING = (
    "handlers use connections to one database that differ in their client encoding; in a batch "
    "they share one, so open them alike"
)
