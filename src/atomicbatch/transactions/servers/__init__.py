"""
The join of drivers that speak to a server: the app's connections work in the batch's transaction.

In reading order::

    introduction.py  a connection tells where it leads, and what its session has set
    links.py         how the join's steps are run on the wire, the batch's own connection
    real.py          the transaction of a batch in one database; sync_real.py and async_real.py
    inside.py        one task of a batch at a time (threads: sqlite/inside.py)
    speakers.py      whose settings a wire to MySQL has now
    lasting.py       what calls set beyond their transactions stays on the app's connections
    use.py           one call's use of a connection of the app's; sync_use.py and async_use.py
    attempt.py       one attempt at a batch: which databases take part, files of SQLite among them

The doors that lead here are ``doors/psycopg.py`` and so on; what they want is in
``doors/server_uses.py``. What handlers take for transactions are savepoints, see ``join/``.
"""
