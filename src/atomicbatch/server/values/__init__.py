"""
JSON values <-> what the database driver takes and gives. In reading order::

    kinds.py      what a column can hold
    codec.py      what a codec is, and the bounds of a column's values
    codecs.py     the conversions of each kind of column; text, bytes, JSON and the rest here
    numbers.py, calendars.py, arrays.py
"""
