"""
What is served. In reading order::

    tables.py            tables and views as resources
    reflection.py        a live database -> tables; postgresql_types.py, effects.py: parts of that
    catalog.py           the schema as it is now; definitions.py tells whether it has changed
"""
