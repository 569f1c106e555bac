"""
The server's HTTP side. In reading order::

    serve.py       options -> a running server
    listening.py   its socket; workers.py: one process; supervisor.py: the parent of several
    running.py     an event loop on a socket, signals, a bounded end
    connection.py  one client's socket: whose turn it is
    patience.py    how long a client may take
    reader.py      bytes -> requests; request.py: one of them, and its response
    traffic.py     what a process holds for all its clients, and the bounds on it
    app.py         the application, for our connections and as an ASGI app: what a head becomes
    answering.py   head and body -> a batch, of one call or many, and the answer, by callbacks
    hosts.py       for which hosts, and from which pages, requests are taken
    batches.py     a batch -> its outcome, in a worker thread
    hang_up.py     nobody waits any more, under other ASGI servers
    readiness.py   whether the database answers; replies.py: how a reply is sent
    access_log.py  a line for each request, which makes nobody wait
"""
