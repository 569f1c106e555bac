"""Frameworks: what has to be changed in them, as soon as they are imported."""

from __future__ import annotations

from atomicbatch.asgi import after_response, background, threads


def install() -> None:
    """Change the frameworks that are here, and those that are imported later."""
    threads.install()
    background.install()
    after_response.install()
