"""
Dispatch: a call reaches the app as a request of its own would (SPEC 1.5).

What holds of every dispatcher is in tests/endpoints/dispatch_contract.py.
"""

from __future__ import annotations

from tests.endpoints.dispatch_contract import *  # noqa: F403
