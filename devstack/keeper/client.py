"""What a controller can ask its keeper, and what it hears of it: exits and notices.

How to start one is `launch`, what travels `requests` and `answers`, what goes wrong `errors`.
"""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Self

from devstack import __version__
from devstack.keeper import answers, processes, protocol
from devstack.keeper.answers import (
    Capabilities,
    Exit,
    Greeting,
    LeftBehind,
    Listing,
    LogProblem,
    Notice,
    Process,
)
from devstack.keeper.channel import Channel
from devstack.keeper.errors import (
    KeeperRefused,
    KeeperUnreachable,
    ProtocolMismatch,
    raise_refusal,
    raise_spawn_error,
)
from devstack.keeper.requests import Command, LogTarget, Mode, Role, SpawnSpec

GREETING_SECONDS = 10.0


class KeeperClient:
    """One connection. As `controller` it may ask for everything, and its loss is the controller's."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, self._hear)
        self.exits: asyncio.Queue[Exit] = asyncio.Queue()
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()
        self.closed = self._channel.closed
        """Set when the keeper is gone (its processes with it) or `close` was called."""
        self._greeting: Greeting | None = None

    @classmethod
    async def connect(cls, path: str, role: Role = "controller") -> Self:
        """Connect and greet; raises `KeeperUnreachable` (also for one that ends) or `ProtocolMismatch`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(path)  # answers at once: a listening unix socket has room, or it refuses
        except OSError as exc:
            sock.close()
            raise KeeperUnreachable(f"no keeper answers at {path}: {exc.strerror}") from exc
        client = cls(sock)
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await client._greet(role)
        except TimeoutError as exc:
            client.close()
            raise KeeperUnreachable(f"the keeper at {path} does not answer") from exc
        except KeeperRefused as exc:
            client.close()
            if exc.kind != "ending":
                raise
            raise KeeperUnreachable(str(exc)) from exc
        except BaseException:
            client.close()
            raise
        return client

    @property
    def greeting(self) -> Greeting:
        assert self._greeting is not None
        return self._greeting

    @property
    def capabilities(self) -> Capabilities:
        return self.greeting.capabilities

    async def spawn(self, spec: SpawnSpec) -> Process:
        """Start a process; returns when its program runs. Raises `SpawnError`, `KeeperRefused`."""
        answer = await self._channel.ask(protocol.SPAWN, spec.to_wire())
        raise_spawn_error(answer, spec)
        return Process.from_wire(answer)

    async def signal(self, key: str, signal: int) -> None:
        """Signal the main process alone."""
        await self._request(protocol.SIGNAL, key=key, signal=int(signal))

    async def stop(self, key: str, signal: int, grace_seconds: float) -> None:
        """Signal and CONT, after the grace KILL for all that descends from it; the exit comes later."""
        await self._request(protocol.STOP, key=key, signal=int(signal), grace_seconds=grace_seconds)

    async def kill(self, key: str) -> None:
        """KILL for all that descends from a process, or that an ended one left; the exit comes later."""
        await self._request(protocol.KILL, key=key)

    async def list(self) -> Listing:
        """What runs, and every exit that was not acknowledged."""
        answer = await self._request(protocol.LIST)
        return Listing.from_wire(answer)

    async def ack(self, key: str) -> None:
        """The exit is recorded: the keeper may forget it, and the key may be used again."""
        await self._request(protocol.ACK, key=key)

    async def adopt(
        self,
        pid: int,
        key: str,
        group: str,
        log: LogTarget | None,
        pipes: Sequence[int] = (),
    ) -> Process:
        """Hand over a process that one of the keeper's children started, with our ends of its pipes.

        The caller keeps its own copies of the descriptors and closes them.
        """
        fields: dict[str, object] = {"pid": pid, "key": key, "group": group, "pipes": len(pipes)}
        if log is not None:
            fields["log"] = log.to_wire()
        answer = await self._channel.ask(protocol.ADOPT, fields, pipes)
        raise_refusal(answer)
        return Process.from_wire(answer)

    async def on_loss(self, command: Command | None) -> None:
        """What to run when an attached controller is lost; it has 10 s."""
        fields = None if command is None else command.to_wire()
        await self._request(protocol.ON_LOSS, command=fields)

    async def mode(self, mode: Mode, respawn: Command | None = None) -> None:
        """Attached: our loss ends everything. Detached: it starts `respawn`, if there is one."""
        fields = None if respawn is None else respawn.to_wire()
        await self._request(protocol.MODE, mode=mode, respawn=fields)

    async def descendants(self, key: str) -> frozenset[int]:
        """The pids that belong to a process: itself, its children, its daemons."""
        answer = await self._request(protocol.DESCENDANTS, key=key)
        return answers.pids(answer)

    async def shutdown(self) -> tuple[str, ...]:
        """Kill what is left, forget the run, end the keeper; gives the names of what was killed.

        The run is not forgotten when something could not be killed: the next command tells it.
        """
        answer = await self._request(protocol.SHUTDOWN)
        return answers.names(answer, "killed")

    def close(self) -> None:
        """Let go of the keeper. An attached one takes that as the loss of its controller."""
        self._channel.close()

    async def _greet(self, role: Role) -> None:
        me = os.getpid()
        answer = await self._channel.ask(
            protocol.HELLO,
            {
                "protocol": protocol.PROTOCOL,
                "version": __version__,
                "role": role,
                "pid": me,
                "start_time": processes.start_of(me),
            },
        )
        error = answer.get("error")
        if isinstance(error, dict) and error.get("kind") == "protocol":
            raise ProtocolMismatch(int(error["protocol"]), str(error["version"]))
        raise_refusal(answer)
        self._greeting = Greeting.from_wire(answer)

    async def _request(self, verb: str, **fields: object) -> dict[str, object]:
        answer = await self._channel.ask(verb, fields)
        raise_refusal(answer)
        return answer

    def _hear(self, message: Mapping[str, object]) -> None:
        match message["event"]:
            case protocol.EXIT:
                self.exits.put_nowait(Exit.from_wire(message))
            case protocol.LEFT_BEHIND:
                self.notices.put_nowait(LeftBehind.from_wire(message))
            case protocol.LOG_PROBLEM:
                self.notices.put_nowait(LogProblem.from_wire(message))
