"""
A database as a REST API with batches, ready to run: ``atomicbatch serve DATABASE``.

In reading order::

    serve.py      options -> a running server; workers.py for several processes
    opening.py    what the user named -> a database, or words that say why not
    running.py    an event loop on a socket, signals, a bounded end
    connection.py bytes <-> requests and responses; request.py: one of them; traffic.py: the bounds
    access_log.py a line for each request, which makes nobody wait
    hosts.py      for which hosts, and from which pages, requests are taken
    app.py        the ASGI application: every request becomes a batch, of one call or many
    database.py   a thread's session, and the transactions that batches run in
    threads.py    worker threads, and how work ends whose time is over; tickets.py: whose it is
    dialect.py    how the databases differ in SQL
    backends.py   how each database is opened, begun and committed by its driver
    counting.py   drivers' connections that stop reading an answer once it is too long
    sqlite_files.py  which file a connection has open, and what if another has taken its name
    faults.py     what a driver's errors mean for a call; meanings.py: code by code
    schema.py     tables and views as resources; reflection.py reads them from the database
    catalog.py    the schema as it is now; definitions.py tells whether it has changed
    values.py     JSON values <-> what the database driver takes and gives
    query.py      the query string of a collection: select, order, limit; filters.py: conditions
    statements.py the SQL for one table
    api.py        which resource a call is for, and what becomes of what goes wrong
    rows.py       which method does what; reading.py, creating.py, changing.py,
                  updating.py do it; keeping.py leaves alone what is sent as it is shown,
                  references.py says which reference a write would break
    resource.py   what these three have in common: keys, bodies, conditions
    conditions.py what a call's headers ask; preferences.py: Prefer; refusals.py: what is not done
    representation.py  rows -> JSON and ETag; arrays.py: many rows, as long as they may be sent
    openapi.py    /openapi.json
    page.py       the page at /
"""
