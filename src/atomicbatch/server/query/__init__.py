"""
The query string of a collection. In reading order::

    query.py    select, order, limit and the rest
    filters.py  conditions on columns -> SQL for WHERE
"""
