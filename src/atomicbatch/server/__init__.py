"""
A database as a REST API with batches, ready to run: ``atomicbatch serve DATABASE``.

In reading order::

    serve.py      options, sockets, processes, signals
    app.py        the ASGI application: every request becomes a batch, of one call or many
    database.py   connections, worker threads, BEGIN and COMMIT on each database
    dialect.py    how the databases differ in SQL and in their errors
    schema.py     tables and views as resources, read once
    values.py     JSON values <-> what the database driver takes and gives
    query.py      the query string of a collection: filters, select, order, limit
    rows.py       a call on rows -> SQL -> reply
    openapi.py    /openapi.json
    page.py       the page at /
"""
