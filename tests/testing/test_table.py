"""The page that tells what the pytest plugin was tried with."""

from __future__ import annotations

import pytest

from tests.databases import WITH_MYSQLCLIENT
from tests.testing.table import PAGE, page


@pytest.mark.skipif(not WITH_MYSQLCLIENT, reason="its rows of the page are made with it")
def test_it_is_up_to_date() -> None:
    """``python -m tests.testing.table`` writes it anew."""
    assert PAGE.read_text("utf-8") == page()
