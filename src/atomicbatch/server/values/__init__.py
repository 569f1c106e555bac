"""
JSON values <-> what the database driver takes and gives. In reading order::

    kinds.py   what a column can hold, and what its type declares
    codec.py   what a codec is: the conversions of one column
    codecs.py  which codec each kind has
    typed.py   a whole object at once, where its values surely fit
    numbers.py texts.py calendars.py documents.py arrays.py untyped.py  the codecs

How each kind is written in JSON stands in ``docs/reference/values.md``.
"""
