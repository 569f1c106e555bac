"""
A shop: Django and Django REST framework on SQLite; one line in MIDDLEWARE makes batches atomic.

Start it with ``gunicorn shop.wsgi``, then send order.http and too-many.http with ``atomicbatch
send``.
"""
