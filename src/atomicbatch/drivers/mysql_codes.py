"""
Error numbers of MariaDB, MySQL and TiDB, and what each means.

The sources are MariaDB's "Error Codes", MySQL's "Server Error Message Reference" and "Client Error
Message Reference", and TiDB's "Error Codes and Troubleshooting". InnoDB checks nothing at COMMIT;
NDB and TiDB do.
"""

from __future__ import annotations

from atomicbatch.drivers import meanings as to_call
from atomicbatch.drivers.verdicts import NOTHING, Fate, Refusal, Verdict

_CONSTRAINT = Refusal.CONSTRAINT

_TABLE: tuple[tuple[Verdict, tuple[int, ...]], ...] = (
    (
        Verdict(Fate.CONFLICT),
        (
            1020,  # MariaDB: record has changed since last read (innodb_snapshot_isolation)
            1205,  # lock wait timeout
            1213,  # deadlock; Galera: certification failed
            3101,  # MySQL Group Replication: certification failed
            8002,  # TiDB: SELECT FOR UPDATE met a newer write
            8022,  # TiDB: COMMIT failed, may be retried
            8028,  # TiDB: the schema changed
            9007,  # TiDB: write conflict
        ),
    ),
    (
        Verdict(Fate.LOST),
        (
            0,  # PyMySQL: InterfaceError(0, ""), used after it was lost
            1047,  # Galera: the node is not prepared
            1053,  # the server is shutting down
            1077,  # likewise
            1180,  # error during COMMIT, but see verdict_of_number
            1927,  # MariaDB: connection was killed
            2002,  # cannot connect
            2003,
            2006,  # server has gone away
            2013,  # lost during a statement
            2014,  # out of step with the server
            2055,  # lost, with a system error
            4031,  # MySQL: disconnected because idle
        ),
    ),
    # SAVEPOINT does not exist. A deadlock ends the transaction and its savepoints, so that this
    # may also be what a handler's ROLLBACK TO comes to after one.
    (Verdict(Fate.SAVEPOINT_GONE), (1305,)),
    (Verdict(None, _CONSTRAINT, to_call.UNIQUE), (1022, 1062, 1169, 1557, 1586, 1761, 1762)),
    (Verdict(meaning=to_call.UNIQUE), (1859,)),
    (Verdict(None, _CONSTRAINT, to_call.FOREIGN), (1216, 1217, 1451, 1452)),
    (Verdict(meaning=to_call.NOT_NULL), (1048, 1263, 1364)),
    (Verdict(None, _CONSTRAINT, to_call.CHECK), (3819, 4025)),
    (Verdict(meaning=to_call.CHECK), (1369,)),
    (Verdict(meaning=to_call.TOO_LONG), (1071, 1118, 1153, 1301, 1406, 3157)),
    (Verdict(meaning=to_call.RANGE), (1264, 1365, 1425, 1426, 1441, 1690)),
    (Verdict(meaning=to_call.CHARSET), (1300, 1977, 3854, 3988)),
    (
        Verdict(meaning=to_call.TYPE),
        (
            *(1210, 1265, 1292, 1366, 1367, 1411, 1416, 1525, 1582, 1916, 3037, 3140, 3141, 3143),
            *(3144, 3146, 3151, 4037, 4038, 4039, 4040, 4041, 4042, 4043, 4044, 4078, 4079),
        ),
    ),
    (Verdict(meaning=to_call.GENERATED), (1906, 3105)),
    (
        Verdict(meaning=to_call.RAISED),
        (1172, 1242, 1329, 1336, 1415, 1422, 1424, 1442, 1456, 1642, 1643, 1644),
    ),
    (Verdict(meaning=to_call.OPERATOR), (1139, 1253, 1267, 1270, 1271, 3685, 3692)),
    (Verdict(meaning=to_call.FORBIDDEN), (1044, 1142, 1143, 1227, 1370, 1419)),
    (Verdict(meaning=to_call.READ_ONLY), (1036, 1792, 1874)),
    # The server has become read-only: ha_commit_trans() then rolls back.
    (Verdict(None, Refusal.OTHER, to_call.READ_ONLY), (1290,)),
    (Verdict(None, Refusal.OTHER), (1836,)),
    (Verdict(meaning=to_call.FULL), (1021, 1114)),
    (Verdict(meaning=to_call.LOCKED), (3572,)),
    (Verdict(meaning=to_call.BUSY), (1037, 1038, 1040, 1041, 1203, 1206, 1226, 1461)),
    (Verdict(meaning=to_call.LATE), (1317, 1907, 1969, 3024)),
    # No such column, no such table, "table definition has changed".
    (Verdict(outdated=True), (1054, 1146, 1412)),
)
NUMBERS = {number: verdict for verdict, numbers in _TABLE for number in numbers}

# "Error during COMMIT" with one of these is a conflict: the transaction is rolled back for sure.
_ROLLED_BACK_1180 = ("error 149", "restart transaction", "write conflict")


def verdict_of_number(number: int, text: str) -> Verdict:
    """
    What an error number means.

    Args:
        number: The server's, or the client library's.
        text: The message, which some numbers need to be understood.
    """
    if number == 1180 and any(words in text.lower() for words in _ROLLED_BACK_1180):
        return Verdict(Fate.CONFLICT)
    if number == 1366 and "string value" in text:
        return Verdict(meaning=to_call.CHARSET)
    if number == 1030:  # of the storage engine, which has numbers of its own
        if "error 28 " in text:
            return Verdict(meaning=to_call.FULL)
        return Verdict(meaning=to_call.TOO_LONG) if "error 139 " in text else NOTHING
    return NUMBERS.get(number, NOTHING)
