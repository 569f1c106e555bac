"""
The client's side of a batch. In reading order::

    http_file.py  an ``.http`` file -> calls; request_text.py: one request; variables.py
    send.py       calls -> one batch on its way to a server -> the answer
    answer.py     what became of the batch, as far as the response says
    report.py     the answer, in lines for people
    check.py      what is wrong with a file or a raw batch; nothing is sent
"""
