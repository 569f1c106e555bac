"""Frameworks: what of them has to know of batches, whenever it is that they are imported."""

from __future__ import annotations

from atomicbatch.asgi import after_response, background, threads


def install() -> None:
    """Make frameworks fit for batches: those that are here, and those imported later."""
    threads.install()
    background.install()
    after_response.install()
