"""Frameworks: what of them has to know of batches, whenever it is that they are imported."""

from __future__ import annotations

from atomicbatch.asgi import after_response, background, threads


def install() -> None:
    """
    Make the frameworks that have been imported by now fit for batches.

    An app may import its framework when the first request comes, so this is called often; it
    costs next to nothing where nothing has been imported since.
    """
    threads.install()
    background.install()
    after_response.install()
