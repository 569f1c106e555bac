"""
What the server says of itself: index.py, the page at ``/``; openapi.py, the document at
``/openapi.json``, with openapi_batch.py and openapi_schemas.py for its parts.
"""
