"""Why a statement is refused: what the handler does, and what to do instead."""

from __future__ import annotations

TWO_PHASE = (
    "it uses two-phase commit, whose second phase would outlive the batch; "
    "use an ordinary transaction"
)
IMPLICIT_COMMIT = (
    "it runs a statement (DDL, say) that MariaDB and MySQL commit at once together with "
    "everything before it; do that outside of batches"
)
NO_TRANSACTION = (
    "it runs a statement that the database refuses inside a transaction; do that outside of batches"
)
OTHER_DATABASE = (
    "it changes the connection's database (USE), which later calls would work on; name the "
    "database in the statement or the table, or use an engine of its own"
)
UNREADABLE = (
    "it prepares or executes SQL that cannot be read beforehand, and that may commit; run it "
    "directly"
)
ONE_CONTROLS = (
    "it runs several statements in one text, of which one controls the transaction; "
    "run them one by one"
)
COMPOUND = (
    "it runs a compound statement, or several statements in one text, of which not every one can "
    "be read; run them one by one"
)
EXECUTABLE = (
    "it uses an executable comment (/*! ... */ or /*M! ... */), which some servers run and others "
    "skip; write what stands in it without the comment, or leave it out"
)
SET_STATEMENT = (
    "it uses SET STATEMENT ... FOR, which hides another statement; run that statement by itself, "
    "with SET SESSION before it and after it where it needs the setting"
)
AUTOCOMMIT = (
    "it sets autocommit by SQL; say it to SQLAlchemy, as "
    'execution_options(isolation_level="AUTOCOMMIT")'
)
TRANSACTION_OPTION = "it sets an option of the transaction, which all calls share"
RELEASE = (
    "it closes the connection at the end of the transaction (RELEASE), which all calls share; "
    "leave RELEASE out"
)
SESSION_LOCKS = (
    "it releases a lock before the batch's COMMIT, so that others would work on what they cannot "
    "see yet, or takes such a lock; use SELECT ... FOR UPDATE or, on PostgreSQL, "
    "pg_advisory_xact_lock"
)
RESET_ALL = (
    "it resets all settings, also those of other sessions; name the settings that RESET is to undo"
)
SEED = (
    "it sets the seed of random numbers, which all calls share and which cannot be read back; "
    "make the numbers in Python"
)
SOME_NAMED = (
    "it calls set_config() with names of which some are in the text and some are not; write all "
    "names into the text, or call it once for each"
)
TWO_KINDS = (
    "it calls set_config() for the transaction and for the session in one text; set one kind at "
    "a time"
)
DISCARD = (
    "it discards what other sessions of the batch's connection have (DISCARD); drop your own "
    "temporary tables by name"
)
TEMPORARY = (
    "it makes a temporary table that is emptied or dropped at COMMIT, which in a batch comes after "
    "later calls have seen it; drop or empty it in the handler"
)
