"""
The join of sqlite3: connections of the app's work in the batch's transaction. In reading order::

    databases.py  which database a connection leads to
    pragmas.py    pragmas: which belong to a connection, and what they are on one
    likeness.py   what of the app's connection the batch's own has to have
    built_in.py   built-in functions whose names the app's have taken
    connections.py  the batch's own connection; cursors move to it and back
    link.py       how the join's steps are run on it
    inside.py     one thread of a batch at a time
    locks.py      which of a batch's connections may write
    turns.py      one batch at a time for each database
    real.py       the transaction of a batch in one database
    texts.py      what the text of a statement tells
    use.py        one call's use of a connection of the app's
    calls.py      which connections a call has used
    others.py     what others do to the same databases meanwhile
    attempt.py    one attempt at a batch: which databases take part, what gives way
    memory.py     what all batches share

The doors that lead here are ``doors/sqlite.py`` and ``doors/aiosqlite.py``. What handlers take for
transactions are savepoints, see ``join/``.
"""
