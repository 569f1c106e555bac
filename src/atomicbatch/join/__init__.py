"""
Handlers' transactions inside the batch's one. It decides what to send, and never sends.

Each use of the connection is a generator of steps, which a shell runs on a link: SQLAlchemy's
greenlets and threads by ``steps.run``, event loops by ``awaiting.run_async``. In reading order::

    stack.py        the stack of virtual transactions, as savepoints
    steps.py        what a step is; the shell for threads, and what it needs of a driver: a link
    awaiting.py     the shell for event loops
    status.py       may the batch go on, and if not, why
    connection.py   the batch's one connection: sends SQL of ours, tells what errors mean
    settings.py     what sessions have set by SET, each for itself
    savepoints.py   the stack, sent; also after a failed statement
    transaction.py  the real transaction: what begins, proves and ends it
    session.py      what one session takes for its transaction: how it begins, and how it ends
    checkout.py     one session's use of the connection: its statements
    acts.py         what ends calls and transactions, in order, each act with its place
    attempt.py      one attempt at a batch: its calls, its transactions, what stops it, its end
    diagnosis.py    what an attempt tells about itself
"""
