"""
What one SQL statement means for the transaction around it: text only. In reading order::

    kinds.py               what a statement can be
    statements.py          text -> kind
    lexing.py              text without its comments and quotes
    setting_statements.py  what SET sets
    functions.py           functions that only read
    refusals.py            why a statement is refused
    writing.py             whether SQL outside of the batch's transaction stores something
"""
