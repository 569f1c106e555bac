"""
What databases say through their drivers. In reading order::

    answers.py    what a database itself has said, read from any driver's exception
    verdicts.py   what a code can mean: for the transaction, for COMMIT, for the call (meanings.py)
    sqlite_codes.py postgresql_codes.py mysql_codes.py   every code that means something
    conflicts.py  which errors mean "run the batch again", which "the connection is lost"
    commits.py    which errors of COMMIT prove that nothing is stored
    endings.py    what a failed savepoint of ours means for the transaction
"""
