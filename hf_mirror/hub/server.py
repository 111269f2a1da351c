"""Starting and stopping: `serve` blocks, `EmbeddedHub` runs a server in a process of its own."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_mirror.errors import ConfigError, HubError
from hf_mirror.hub.accounts import Accounts


def serve(root: Path, host: str = "127.0.0.1", port: int = 0, until_stdin_closes: bool = False) -> None:
    """Serves the Hub on `root` until it is interrupted. Prints its URL, alone on a line, once it answers.

    Port 0 takes a free one. ConfigError: a host other than loopback where there are no tokens (accounts.py), a port
    that is taken, a root that another server holds. With `until_stdin_closes` it also ends with the process that
    started it, however that one ends.
    """
    import uvicorn

    from hf_mirror.hub.app import build

    root = Path(root).resolve()
    accounts = Accounts(root)
    check_host(host, accounts)
    with alone(root), _listening(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listener.getsockname()[1]}"

        async def announce() -> None:
            print(url, flush=True)

        config = uvicorn.Config(
            build(root, accounts, announce), log_level="warning", access_log=False, server_header=False, ws="none",
            timeout_graceful_shutdown=2, timeout_keep_alive=60,
        )  # fmt: skip
        server = uvicorn.Server(config)
        if until_stdin_closes:
            threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


def _stop_with_stdin(server: object) -> None:
    sys.stdin.read()
    server.should_exit = True  # type: ignore[attr-defined]


def check_host(host: str, accounts: Accounts) -> None:
    """ConfigError unless `host` is this machine talking to itself, or the Hub asks for tokens."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and accounts.everybody:
        raise ConfigError(
            f"--host {host} is reachable from elsewhere, and this Hub asks nobody for a token; use 127.0.0.1 or ::1, "
            "or make tokens with `mirror hub token`"
        )


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """One server per root: two would not see each other's uploads in progress."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "server.lock").open("a")
    except OSError as error:
        raise ConfigError(
            f"--root {root} cannot be used ({error.strerror}); name a folder that can be written"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"--root {root} is already being served; stop that server or name another root") from None
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # else no TCP_NODELAY: 40 ms each
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--port {port} on {host} cannot be used ({error}); name another, or 0 for a free one"
            ) from None
        listener.listen(128)
        yield listener


class EmbeddedHub:
    """A Hub on `root` in a process of its own, for as long as the `with` block lasts; `url` is its address.

    The server ends when the block does, and also when this process dies in any other way. HubError when it does not
    start, with what it said.
    """

    def __init__(self, root: Path | str, port: int = 0) -> None:
        self.root, self.port, self.url = Path(root), port, ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> EmbeddedHub:
        self.root.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "hf_mirror.hub", "--root", str(self.root), "--port", str(self.port)]
        with (self.root / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        output = self._process.stdout
        self.url = output.readline().strip() if output else ""
        if not self.url.startswith("http://"):
            self.__exit__()
            said = (self.root / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise HubError(f"The Hub on {self.root} did not start: {said[-1] if said else 'no output'}")
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process = None
