"""
AtomicBatch: one transaction on a real database, in each place it can stand.

What holds of every endpoint is in tests/endpoints/app_contract.py.
"""

from __future__ import annotations

from tests.endpoints.app_contract import *  # noqa: F403
