"""
The database servers of a run of tests, which all of its workers share.

The process that controls the run starts them, side by side, while its workers still collect the
tests; a worker waits for the address. Without workers each is started when a test first asks.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests import databases

KINDS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": databases.postgresql,
    "mariadb": databases.mariadb,
}


class SharedServers:
    """A server of each kind; ``folder`` tells the workers where they are."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atomicbatch-servers-"))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in KINDS]

    def start(self) -> None:
        """Start them; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop them, and wait until they are gone."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, kind: str) -> None:
        try:
            with KINDS[kind]() as url:
                self._tell(kind, url=url)
                self._over.wait()
        except databases.MissingServerError as error:
            self._tell(kind, missing=str(error))
        except Exception as error:
            self._tell(kind, failed=repr(error))

    def _tell(self, kind: str, **fact: str) -> None:
        whole = self.folder / f"{kind}.new"
        whole.write_text(json.dumps(fact))
        whole.rename(self.folder / kind)  # nobody reads half of it


def shared_url(folder: Path, kind: str) -> str:
    """
    The address of the shared server of a kind, without a database; waits until it is there.

    Raises:
        MissingServerError: Its programs are not on this machine.
        RuntimeError: It did not start.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            fact = json.loads((folder / kind).read_text())
            if "url" in fact:
                return str(fact["url"])
            if "missing" in fact:
                raise databases.MissingServerError(fact["missing"])
            raise RuntimeError(fact["failed"])
        time.sleep(0.05)
    raise RuntimeError(f"{kind} did not start in time")
