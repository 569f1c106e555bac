"""
Calls on the rows of a table. In reading order::

    api.py             which resource a call is for, and what becomes of what goes wrong
    methods.py         which method does what; read.py, create.py, change.py, update.py do it
    resource.py        what these have in common: keys, bodies, conditions
    preconditions.py   what a call's headers ask; preferences.py, refusals.py: the rest
    statements.py      the SQL for one table
    keeping.py         leaves alone what is sent as it is shown
    references.py      which reference a write would break
    representation.py  rows -> JSON and ETag; arrays.py: many rows, as long as they may be sent
"""
