"""Numbers whose columns declare unusual bounds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from atomicbatch.server.dialect import MARIADB, POSTGRESQL, SQLITE, Dialect
from atomicbatch.server.values.codec import ValueProblem
from atomicbatch.server.values.kinds import Bounds
from atomicbatch.server.values.numbers import decimal_codec


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL, MARIADB], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("precision", "scale", "fits", "does_not"),
    [
        (2, 2, "0.12", "1.00"),
        (2, 3, "0.012", "0.100"),
        (2, 0, "12", "1.5"),
        (3, 1, "12.5", "12.55"),
    ],
)
def test_an_amount_keeps_within_its_digits(
    dialect: Dialect, precision: int, scale: int, fits: str, does_not: str
) -> None:
    """Also where all digits stand behind the point, and zeros in front of them do not count."""
    codec = decimal_codec(dialect, "amount", Bounds(precision=precision, scale=scale))
    for convert in (codec.from_json, codec.from_text):
        assert Decimal(str(convert(fits))) == Decimal(fits)
        with pytest.raises(ValueProblem):
            convert(does_not)
