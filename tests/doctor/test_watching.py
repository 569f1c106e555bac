"""What leaves the transaction while a call runs is refused, and makes its handler unsafe."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from atomicbatch.doctor import Verdict, examine
from tests.doctor.conftest import by_operation

pytestmark = pytest.mark.slow
_APP = """
import asyncio, multiprocessing, multiprocessing.pool, os, pty, socket, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import FastAPI

udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
CHILD = [sys.executable, "-c", "open('child', 'w').close()"]

def touch():
    Path("child").touch()

def fork(fork):
    child = fork()
    if not (child if isinstance(child, int) else child[0]):
        touch()
        os._exit(0)

def start(method):
    process = multiprocessing.get_context(method).Process(target=touch)
    process.start()
    process.join()

@asynccontextmanager
async def lifespan(app):
    # The child processes run before anybody calls.
    global pool, threads, executor
    context = multiprocessing.get_context("fork")
    executor = ProcessPoolExecutor(1, mp_context=context)
    executor.submit(abs, 1).result()
    pool, threads = context.Pool(1), multiprocessing.pool.ThreadPool(1)
    yield
    pool.terminate()
    threads.terminate()
    executor.shutdown()
    udp.close()

app = FastAPI(lifespan=lifespan)
{handlers}
"""


def found(
    write_app: Callable[[str], str], *bodies: str, allowed: str = ""
) -> list[tuple[Verdict, list[str]]]:
    """What there is to say about handlers with these bodies."""
    handlers = "\n".join(
        f"@app.post('/{number}')\n{'async ' * ('await' in body)}def handle_{number}():\n"
        f"    {body}\n"
        for number, body in enumerate(bodies)
    )
    name = write_app(_APP.format(handlers=handlers))
    allow = [allowed] if allowed else []
    return list(by_operation(examine(f"{name}:app", allowed=allow)).values())


_PROCESSES = {
    "fork(os.fork)": "another process",
    "fork(os.forkpty)": "another process",
    # One that is missing: any other would be all that is left of the tests, if let through.
    "os.execv('missing', ['missing'])": "the program missing",
    "os.posix_spawn(CHILD[0], CHILD, os.environ)": "the program {python}",
    "os.spawnv(os.P_WAIT, CHILD[0], CHILD)": "another process",
    "os.system('touch child')": "the program touch child",
    "pty.spawn(CHILD)": "another process",
    "subprocess.run(CHILD)": "the program {python}",
    "await asyncio.create_subprocess_exec(*CHILD)": "the program {python}",
    "start('fork')": "another process (multiprocessing)",
    "start('spawn')": "another process (multiprocessing)",
    "start('forkserver')": "another process (multiprocessing)",
    "executor.submit(touch).result()": "another process (multiprocessing)",
    "pool.apply(touch)": "another process (multiprocessing)",
    "pool.map(print, [1])": "another process (multiprocessing)",
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # 3.12: there are threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="has processes of another kind")
def test_child_processes(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """None is started, and none that waits is given anything to do; threads are."""
    *findings, threads = found(write_app, *_PROCESSES, "threads.apply(abs, (1,))")
    for (body, what), (verdict, reasons) in zip(_PROCESSES.items(), findings, strict=True):
        assert verdict is Verdict.UNSAFE, body
        start, _, rest = what.partition("{python}")
        assert reasons[0].startswith(f"starts {start}"), body
        assert rest or reasons[0].endswith(" (refused here); a rollback does not undo that"), body
    assert not (tmp_path / "child").exists()
    assert threads[0] is Verdict.WARNING  # it changes no database


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What datagrams might be sent to."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0)
        yield listening


def test_datagrams(write_app: Callable[[str], str], listener: socket.socket) -> None:
    """A socket that was open before needs no connection."""
    address = listener.getsockname()
    ways = (f"udp.sendto(b'x', {address})", f"udp.sendmsg([b'x'], [], 0, {address})")
    talks = "talks to 127.0.0.1:{} (refused here, see --allow); a rollback does not undo that"
    expected = (Verdict.UNSAFE, [talks.format(address[1])])
    assert found(write_app, *ways) == [expected, expected]
    with pytest.raises(BlockingIOError):
        listener.recv(1)


def test_datagrams_that_are_allowed(
    write_app: Callable[[str], str], listener: socket.socket
) -> None:
    """As with connections."""
    address = listener.getsockname()
    ((_, reasons),) = found(
        write_app, f"udp.sendto(b'x', {address})", allowed=f"127.0.0.1:{address[1]}"
    )
    assert reasons[-1].startswith(f"note: talks to 127.0.0.1:{address[1]}, which is allowed")
    assert listener.recv(1) == b"x"
