"""
Sessions of PyMySQL, aiomysql and asyncmy, for which the batch's wire stands.

What the app's commands mean for its session, and what its own connection shows meanwhile: the
transaction as the app knows it.
"""

from __future__ import annotations

import re
from typing import Any, Final
from weakref import ref

from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import uncommented

# The protocol's numbers of commands.
COM_INIT_DB = 2
COM_QUERY = 3

RESULT_READER: Final = "_read_query_result"
"""The method by which a connection reads a result, also the next one of the same answer."""

# The server's flags, which come with its answers.
_IN_TRANSACTION = 1
_AUTO = 2
_MORE_RESULTS = 8
# What a connection is asked for when it connects, and what of it tells it from others for the app:
# FOUND_ROWS, IGNORE_SPACE, MULTI_STATEMENTS.
_CLIENT_FLAGS = 0x2 | 0x100 | 0x10000

# Attributes of ours on the app's connections.
OWN: Final = "_atomicbatch_own_status"
"""It is there where a connection shows anything that is not its own session's."""
_DATABASE = "_atomicbatch_database"
_PUT_OFF = "_atomicbatch_begin"

_SET_AUTO = re.compile(
    r"\s*SET\s+(?:(?:SESSION|LOCAL)\s+|@@(?:(?:SESSION|LOCAL)\s*\.\s*)?)?AUTOCOMMIT\s*:?=\s*"
    r"(?:(1|ON|TRUE)|0|OFF|FALSE)\s*;?\s*",
    re.IGNORECASE,
)
# Of the session, not of one transaction, of everybody, or a variable of the user's.
_SETS_SESSION = re.compile(
    r"\s*SET\s+(?!@[^@]|(?:TRANSACTION|STATEMENT|PASSWORD|DEFAULT|GLOBAL|PERSIST\w*)\b"
    r"|@@(?:GLOBAL|PERSIST\w*)\b)",
    re.IGNORECASE,
)
_LOADS_LOCAL = re.compile(r"\bLOAD\s+(?:DATA|XML)\b[^;]*?\bLOCAL\b", re.IGNORECASE)
# The first words of a statement are in its beginning.
_BEGINNING = 1000

OTHER_DATABASE = (
    "a handler changes the database of its connection (select_db) for later calls too; name the "
    "database in the statement, or open a connection for each database"
)
READS_FILE = (
    "a handler loads a file of the app's (LOAD DATA LOCAL), which the driver sends past the "
    "batch's connection; insert its rows"
)
BEGIN: Final = "BEGIN"
ENDS = ("COMMIT", "ROLLBACK")
"""What the drivers themselves send."""
UNLIKE = (
    "handlers use connections to one database that differ in client_flag (FOUND_ROWS, "
    "IGNORE_SPACE or MULTI_STATEMENTS); open them alike"
)
UNREADABLE = (
    "a handler cannot read what the database answers, after which its driver has no use for the "
    "connection any more, which in a batch all calls share; see to its converters (conv)"
)
OWN_SOCKET = (
    "a handler uses a connection over a socket that the app has connected itself, so that the "
    "batch cannot open another one like it; give connect() a host or a unix_socket"
)
OWN_READER = (
    "a handler reads the rows of a command that it has sent by _execute_command(); use a cursor"
)


def text_of(sql: str | bytes | bytearray, encoding: str) -> str:
    """The text of a statement, as the app has given it to its connection."""
    return sql if isinstance(sql, str) else bytes(sql).decode(encoding, "replace")


def sets_auto(text: str) -> bool | None:
    """Tell what a statement switches autocommit to; None: it does not."""
    found = _SET_AUTO.fullmatch(text) if len(text) < _BEGINNING else None
    return None if found is None else found[1] is not None


def sets_session(text: str) -> bool:
    """Tell whether a statement makes a setting that lasts as long as the connection."""
    return _SETS_SESSION.match(text[:_BEGINNING]) is not None


def loads_local(text: str) -> bool:
    """Tell whether a statement has the driver send a file."""
    return _LOADS_LOCAL.search(uncommented(text[:_BEGINNING], Family.MYSQL)) is not None


def are_alike(flags: int, others: int) -> bool:
    """Tell whether statements mean the same on two connections, by their client flags."""
    return not (flags ^ others) & _CLIENT_FLAGS


def is_servers(error: BaseException, kind: type[BaseException]) -> bool:
    """
    Tell whether an error is an answer of the server's, or of the driver's own about the connection.

    Args:
        error: What reading an answer has raised.
        kind: The driver's class of errors.
    """
    return isinstance(error, kind) and bool(error.args) and isinstance(error.args[0], int)


def is_auto(status: int) -> bool:
    """Read the flag of autocommit."""
    return bool(status & _AUTO)


# BEGIN ------------------------------------------------------------------------------------------

# Tortoise loses a connection of its pool where BEGIN fails. So nothing is done for it before the
# next statement, which may fail.


def is_begin(sql: Any) -> bool:
    """Tell whether it is what drivers send to begin a transaction."""
    return type(sql) is str and sql == BEGIN


def put_begin_off(connection: Any, use: object) -> None:
    """The app has sent BEGIN by a connection, for which ``use`` stands."""
    vars(connection)[_PUT_OFF] = ref(use)


def is_begin_put_off(connection: Any, use: object) -> bool:
    """Tell whether it has, and has sent nothing since."""
    found = vars(connection).get(_PUT_OFF)
    return found is not None and found() is use


def take_begin(connection: Any, use: object) -> bool:
    """Likewise; from now on it has sent something."""
    found = vars(connection).pop(_PUT_OFF, None)
    return found is not None and found() is use


# What the app's connection shows ----------------------------------------------------------------


def own_status(connection: Any, now: int) -> int:
    """
    The flags of the app's own session.

    Args:
        connection: The app's.
        now: What it shows now.
    """
    status: int = vars(connection).get(OWN, now)
    return status


def show(connection: Any, own: int, seen: int, *, in_transaction: bool) -> None:
    """
    Let a connection of the app's show the flags that it would have alone.

    Args:
        connection: The app's.
        own: The flags of its own session.
        seen: Those of the last answer.
        in_transaction: A transaction is open, as far as the app knows.
    """
    vars(connection)[OWN] = own
    shown = seen & ~(_AUTO | _IN_TRANSACTION | _MORE_RESULTS) | own & _AUTO
    connection.server_status = shown | (_IN_TRANSACTION if in_transaction else 0)


def seen_in(results: list[Any]) -> int | None:
    """
    Find the flags in answers of the wire; None: they tell none, as the drivers read them.

    On the wire a transaction is always open, so that no answer has no flags.
    """
    seen = [status for one in results if (status := getattr(one, "server_status", None))]
    return seen[-1] if seen else None


def mark(connection: Any, own: int) -> None:
    """Note that something of a connection is not its own session's."""
    vars(connection)[OWN] = own


def show_own(connection: Any, reader: str) -> None:
    """
    Let a connection of the app's show its own session again, before its next command.

    Args:
        connection: The app's.
        reader: The name of the method that reads a packet.
    """
    here = vars(connection)
    own = here.pop(OWN, None)
    if own is not None:
        connection.server_status = own
    here.pop(reader, None)
    here.pop(_PUT_OFF, None)
    result = connection._result
    if result is None or not result.has_next:
        here.pop(RESULT_READER, None)


def forget(connection: Any, reader: str) -> None:
    """A connection of the app's begins a new session."""
    here = vars(connection)
    for name in (OWN, _DATABASE, _PUT_OFF, RESULT_READER, reader):
        here.pop(name, None)


def note_database(connection: Any, name: Any) -> None:
    """The app has selected another database than the one it has connected to."""
    vars(connection)[_DATABASE] = name


def database_of(connection: Any, first: Any) -> Any:
    """
    Tell which database a connection is in.

    Args:
        connection: The app's.
        first: What it has connected to.
    """
    return vars(connection).get(_DATABASE, first)
