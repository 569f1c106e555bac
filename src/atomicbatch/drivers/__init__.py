"""
What databases say through their drivers. In reading order::

    answers.py    what a database itself has said, read from any driver's exception
    conflicts.py  which errors mean "run the batch again", which "the connection is lost"
    commits.py    which errors of COMMIT prove that nothing is stored
    endings.py    what a failed savepoint of ours means for the transaction
"""
