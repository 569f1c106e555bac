"""Ahead: SQL of ours that goes ahead of something else, in the same round trip."""

from __future__ import annotations


class NotReachedError(Exception):
    """
    Ours has failed, and the server has not run what was behind it.

    Its cause is the driver's exception.
    """
