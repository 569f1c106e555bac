"""
What one SQL statement means for the transaction around it: text only. In reading order::

    kinds.py               what a statement can mean: Kind, Statement
    statements.py          SQL text -> Statement; where several statements stand in one text
    families.py            one table per database family: first word -> who reads the statement
    control.py             BEGIN, COMMIT, ROLLBACK, SAVEPOINT
    queries.py             SELECT and its kin: reads, locks, or may write
    functions.py           the functions that only read
    setting_statements.py  SET, RESET, set_config()
    lexing.py              text without comments and quotes
    refusals.py            why a statement is refused
    writing.py             whether SQL on a connection outside the batch stores something
    unknown.py             the same, where nobody here knows that kind of SQL
"""
