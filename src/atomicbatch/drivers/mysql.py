"""MariaDB and MySQL: what is the same for all of their drivers."""

from __future__ import annotations

from typing import Any

from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.errors import BrokenTransactionError

# SERVER_STATUS_IN_TRANS in the protocol's OK and EOF packets.
_IN_TRANSACTION = 1
# "Some non-transactional changed tables couldn't be rolled back", a warning.
_NOT_ROLLED_BACK = 1196


def begin(*, read_only: bool) -> tuple[str, ...]:
    """
    Write the statements that begin a transaction.

    Args:
        read_only: It will only read, from a snapshot that locks no row. SERIALIZABLE would lock
            every row that is read.
    """
    if not read_only:
        return ("START TRANSACTION",)
    return (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    )


def state_of(server_status: int | None) -> State:
    """
    Read the flags that came with the server's last answer.

    Args:
        server_status: None on a connection that is closed.
    """
    if server_status is None:
        return State.UNKNOWN
    return State.OPEN if server_status & _IN_TRANSACTION else State.IDLE


def check_state(found: State) -> None:
    """
    Refuse to send COMMIT for a transaction that has ended.

    DDL commits without a word, and a deadlock ends the transaction. The next statement then begins
    another one where autocommit is off, which this does not see; a savepoint does.

    Raises:
        BrokenTransactionError: It has ended.
    """
    if found is not State.OPEN:
        raise BrokenTransactionError("the database ended the transaction before COMMIT")


def check_warnings(rows: Any) -> None:
    """
    Read what SHOW WARNINGS says after ROLLBACK.

    Args:
        rows: Level, number and text of each.

    Raises:
        BrokenTransactionError: A table was changed that has no transactions: MyISAM and its like.
    """
    if any(row[1] == _NOT_ROLLED_BACK for row in rows):
        raise BrokenTransactionError(
            "a table was changed whose storage engine cannot roll back: that change stays"
        )


def kill_query(number: int, elsewhere: Elsewhere | None) -> Interrupt:
    """
    Make what stops a statement by KILL QUERY on another connection.

    Args:
        number: The server's number of the connection (``thread_id()``).
        elsewhere: Runs it there; None: the statement cannot be stopped.
    """

    def interrupt(seconds: float) -> None:
        if elsewhere is not None:
            elsewhere(f"KILL QUERY {number:d}", seconds)

    return interrupt
