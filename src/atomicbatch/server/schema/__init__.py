"""
What is served. In reading order::

    tables.py        tables and views as resources
    reflection.py    a live database -> tables, by SQLAlchemy's inspector
    details.py       what the inspector does not tell; sqlite_details.py, mariadb_details.py,
                     postgresql_details.py: each database's own
    column_types.py  a column's type -> what it holds; postgresql_types.py: PostgreSQL's, by oid
    effects.py       what a database does beyond what a write says; sqlite_storage.py: whether it
                     stores a value as it was sent
    catalog.py       the schema as it is now; definitions.py tells whether it has changed
"""
