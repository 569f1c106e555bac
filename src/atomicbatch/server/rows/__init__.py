"""
Calls on the rows of a table. In reading order::

    api.py             which table a call is for; failures.py: what becomes of what goes wrong
    plan.py            what a call needs of the database: nothing, one statement, or a dialogue
    run.py             performs plans on a session, one after another
    ahead.py           on PostgreSQL: sends what is known beforehand without waiting for answers
    methods.py         which method does what: read.py, create.py, update.py, replace.py, delete.py;
                       plain.py: the same in fewer steps, for calls that ask for nothing special
    resource.py        one table: its SQL (statements.py, writes.py), and how its rows are shown
    keys.py bodies.py  what a call sends in its path and its body
    asked.py           what a block of headers asks, read once for all calls that share it
    preconditions.py   conditions on rows; preferences.py, refusals.py: the rest of the headers
    insert.py          one row is stored; change.py: changed; duplicates.py: either
    reach.py           which rows a write has reached
    keeping.py         leaves alone what is sent as it is shown
    references.py      which reference a write would break
    representation.py  rows -> JSON and ETag; arrays.py: many rows, as long as they may be sent
"""
