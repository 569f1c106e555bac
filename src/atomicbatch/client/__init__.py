"""
The client's side: ``.http`` files, sending a batch, checking one.

``http_file.py`` reads ``.http`` files, by ``request_text.py`` (one request) and ``variables.py``;
``send.py`` sends them as a batch; ``check.py`` says what is wrong with a file or a raw batch.
"""
