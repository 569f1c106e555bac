"""
What databases are like through their drivers. No policy, and no driver is imported: the functions
take a driver's own connection. In reading order::

    driver.py       what the module of each driver has: send SQL of ours, ask for a value, the
                    transaction's state, the proof that it still stands, and COMMIT; ROLLBACK,
                    interrupt
    sqlite3.py aiosqlite.py
    psycopg.py psycopg_async.py psycopg2.py asyncpg.py     postgresql.py: what they have in common
    ahead.py        SQL of ours ahead of something else, in one round trip;  psycopg_ahead.py
    pymysql.py mysqlclient.py aiomysql.py asyncmy.py       mysql.py: likewise
    psycopg_pipeline.py   libpq's pipeline: statements are sent before earlier ones are answered;
                    psycopg_names.py: which of them are prepared
    pep249.py       any other driver with cursors
    known.py        their names
    stopper.py      stops a statement, or cuts a connection off, from any thread

    answers.py      what a database itself has said, read from any driver's exception
    verdicts.py     what a code can mean: for the transaction, COMMIT, the call (meanings.py)
    sqlite_codes.py postgresql_codes.py mysql_codes.py     every code that means something
    conflicts.py    which errors mean "run the batch again", which "the connection is lost"
    commit_errors.py  after a COMMIT that failed: which errors prove that nothing is stored
    endings.py      what the failure of one of our savepoints means for the transaction
    openings.py     why a connection could not be opened
"""
