"""Why a statement is refused: what the handler does, and what to do instead."""

from __future__ import annotations

TWO_PHASE = (
    "it uses two-phase commit, and the second phase would outlive the batch; use an ordinary "
    "transaction"
)
IMPLICIT_COMMIT = (
    "it runs a statement (DDL, say) that MariaDB and MySQL commit at once, together with "
    "everything before it; do that outside of batches"
)
NO_TRANSACTION = (
    "it runs a statement that the database refuses inside a transaction; do that outside of batches"
)
OTHER_DATABASE = (
    "it changes the connection's database (USE) for later calls too; name the database in the "
    "statement or in the table's definition, or use an engine for each database"
)
UNREADABLE = (
    "it prepares or executes SQL whose text is not known beforehand, and which may commit; run it "
    "directly"
)
ONE_CONTROLS = (
    "it sends several statements in one text, and one of them controls the transaction or makes a "
    "setting; send them one by one"
)
COMPOUND = (
    "it sends a compound statement, or several statements in one text that cannot all be read; "
    "send them one by one"
)
EXECUTABLE = (
    "it uses an executable comment (/*! ... */ or /*M! ... */), which some servers run and others "
    "skip; write what stands in it without the comment, or leave it out"
)
SET_STATEMENT = (
    "it uses SET STATEMENT ... FOR, which hides another statement; run that statement by itself, "
    "and if it needs the setting, use SET SESSION before and after it"
)
AUTOCOMMIT = (
    "it sets autocommit by SQL; tell SQLAlchemy instead: "
    'execution_options(isolation_level="AUTOCOMMIT")'
)
TRANSACTION_OPTION = (
    "it sets an option of the transaction, which all calls share; begin the session or connection "
    "with that option instead (execution_options, or options of the engine)"
)
READ_ONLY = (
    "it makes all later transactions of its connection read only, but those of other calls share "
    "the batch's; use START TRANSACTION READ ONLY"
)
RELEASE = (
    "it closes the connection, which all calls share, at the end of its transaction (RELEASE); "
    "leave RELEASE out"
)
SESSION_LOCKS = (
    "it takes or releases a lock that others can get before the batch's COMMIT, when they do not "
    "see its work yet; use SELECT ... FOR UPDATE or, on PostgreSQL, pg_advisory_xact_lock"
)
SERVER_FILES = (
    "it lets the database's server write a file or run a program, which no rollback undoes; do "
    "that outside of batches, or read the rows and write the file after COMMIT (on_commit)"
)
RESET_ALL = "it resets the settings of other sessions too (RESET ALL); name the settings to reset"
SEED = (
    "it sets the seed of random numbers, which all calls share and which cannot be read back; "
    "make the numbers in Python"
)
SOME_NAMED = (
    "it calls set_config() several times, and only some of the names stand in the text; write all "
    "names into the text, or send one call at a time"
)
TWO_KINDS = (
    "it calls set_config() for the transaction and for the session in one text; set one kind at "
    "a time"
)
DISCARD = (
    "it discards what other sessions of the batch have on the connection (DISCARD); drop your own "
    "temporary tables by name"
)
TEMPORARY = (
    "it makes a temporary table that is emptied or dropped at COMMIT, and in a batch later calls "
    "would still see it; drop or empty it in the handler"
)
