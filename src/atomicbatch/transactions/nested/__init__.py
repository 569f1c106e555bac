"""
A transaction inside of a transaction: its BEGIN, COMMIT and ROLLBACK are savepoints of the outer's.

The whole join works inside as it does outside. Only where it would begin or end the transaction it
does so to a savepoint. That is what a test's transaction needs, which holds those of a module's
fixtures around it and those of batches inside of it. In reading order::

    links.py    how BEGIN, COMMIT and ROLLBACK are done on the outer transaction's connection
    files.py    the transaction inside of one in an SQLite database
    servers.py  likewise in a server's database
    wires.py    the event loop on which connections of async drivers live meanwhile
    watch.py    what cannot be undone is refused, and said
    covered.py  what would end with a transaction inside is refused
    dropped.py  connections that the app drops without closing them
    words.py    which is said in words for tests
    layers.py   a layer: everything that is stored for a time, and undone at its end
    batches.py  one attempt at a batch inside of a layer
"""
