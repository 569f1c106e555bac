"""
The server's side of the database. In reading order::

    opening.py       what the user named -> a database, or words that say why not
    database.py      what is served: its schema, and the threads that work on it
    sessions.py      a thread's connection, and the transactions that batches run in
    threads.py       worker threads, and how work ends whose time is over; tickets.py: whose it is
    backend.py       what the server needs of a database: sqlite.py, postgresql.py, mariadb.py
    flight.py        statements on their way to PostgreSQL, sent before earlier ones are answered
    backends.py      which of them serves a URL
    bounds.py        how it is said that an answer is longer than may be sent
    counting.py      drivers' connections that stop reading an answer once it is too long
    sqlite_files.py  which file a connection has open, and what if another has taken its name
    faults.py        what a driver's errors mean for a call, and whom they name
"""
