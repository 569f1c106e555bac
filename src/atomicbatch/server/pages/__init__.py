"""
What the server says of itself, without asking the database. In reading order::

    fixed.py            every such reply, by path
    index.py            the page at ``/``, for people
    openapi.py          the document at ``/openapi.json``
    openapi_batch.py    its batch endpoint, with an example; openapi_schemas.py: its tables' columns
"""
