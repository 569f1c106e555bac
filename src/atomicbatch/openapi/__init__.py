"""
OpenAPI documents: what they say of an app, and what they say of its batch endpoint.

In reading order::

    samples.py      a value that a JSON schema allows
    calls.py        a call made up for each operation of a document
    batch_path.py   the batch endpoint as a document describes it
"""
