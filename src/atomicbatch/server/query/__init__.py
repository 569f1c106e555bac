"""
The query string of a collection: parsed to a tree, and only then written as SQL. In reading order::

    query.py    the query string -> Query: select, order, limit and the rest
    filters.py  its conditions -> a tree; lists.py: the values in them; names.py: their columns
    tree.py     the tree. Others may make one, or narrow one that was parsed
    sql.py      tree -> SQL, with every value as a parameter
"""
