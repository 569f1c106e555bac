"""Results: answers as the server writes them."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from pymysql.protocol import MysqlPacket, OKPacketWrapper

from atomicbatch.doors.mysql_results import ok_packet

NUMBERS = st.integers(0, 2**64 - 1)
SHORTS = st.integers(0, 2**16 - 1)


@settings(max_examples=30)
@given(NUMBERS, NUMBERS, SHORTS, SHORTS, st.binary(max_size=9))
def test_answers_are_as_the_server_writes_them(
    affected: int, insert_id: int, status: int, warnings: int, message: bytes
) -> None:
    """The drivers read back what was written."""
    result = SimpleNamespace(
        affected_rows=affected, insert_id=insert_id, warning_count=warnings, message=message
    )
    packet = MysqlPacket(ok_packet(result, status), "utf8")
    assert packet.is_ok_packet()
    read = OKPacketWrapper(packet)
    assert (read.affected_rows, read.insert_id) == (affected, insert_id)
    assert (read.server_status, read.warning_count) == (status, warnings)
    assert read.message == message
