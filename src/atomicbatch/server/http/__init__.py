"""
The server's HTTP side. In reading order::

    serve.py       options -> a running server; workers.py for several processes
    running.py     an event loop on a socket, signals, a bounded end
    connection.py  bytes <-> requests and responses; request.py: one of them; traffic.py: the bounds
    hosts.py       for which hosts, and from which pages, requests are taken
    access_log.py  a line for each request, which makes nobody wait
    app.py         the ASGI application: every request becomes a batch, of one call or many
"""
