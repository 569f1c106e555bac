"""
One adapter per database library; what unmodified handlers see.

In reading order::

    base.py        the contract in words, and what a driver's exception comes to under it
    conflicts.py   which errors mean "run the batch again", per database
"""
