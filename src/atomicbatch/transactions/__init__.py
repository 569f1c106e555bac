"""
One adapter per database library; what unmodified handlers see.

In reading order::

    base.py        the contract in words, and what a driver's exception comes to under it
    conflicts.py   which errors mean "run the batch again", per database
    statements.py  what a handler's statement means for the transaction around it
    virtual.py     what handlers take for transactions, as savepoints inside the real one
    sqlalchemy/    handlers that use SQLAlchemy, unmodified
"""
