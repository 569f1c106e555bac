"""
OpenAPI documents: what they say about an app, and about its batch endpoint.

In reading order::

    samples.py      a value that a JSON schema allows
    calls.py        a plausible call for each operation of a document
    batch_path.py   the batch endpoint as a document describes it
"""
