"""
A database as a REST API with batches, ready to run: ``atomicbatch serve DATABASE``.

A request goes down this list; in reading order::

    http/      options -> a running server; bytes <-> requests; who may ask; the ASGI application
    database/  worker threads, their connections and transactions; what a driver's errors mean
    schema/    tables and views as resources, read from the database; how the databases differ
    values/    JSON values <-> what the database driver takes and gives
    query/     the query string of a collection -> what to select
    rows/      which method of a call on a table's rows does what, and the reply
    pages/     the page at /, and /openapi.json
    sample.py  a small shop to send first batches to
"""
