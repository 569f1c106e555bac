"""
The client's side: ``.http`` files, sending a batch, checking one.

``http_file.py`` reads ``.http`` files; ``send.py`` sends them as a batch; ``check.py`` says what is
wrong with a raw batch.
"""
