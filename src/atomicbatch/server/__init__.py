"""
A database as a REST API with batches, ready to run: ``atomicbatch serve DATABASE``.

A request goes down this list, and no room imports from one above it::

    http/       options -> a running server; bytes <-> requests; who may ask; the ASGI application
    pages/      the page at /, and /openapi.json
    rows/       which method of a call on a table's rows does what, and the reply
    database/   worker threads, their connections and transactions; what a driver's errors mean
    query/      the query string of a collection -> what to select
    schema/     tables and views as resources, read from the database
    values/     JSON values <-> what the database driver takes and gives
    dialect.py  how the databases differ in SQL; principal.py: who asks for a call

Beside it, ``sample.py`` makes a small shop to send first batches to.
"""
