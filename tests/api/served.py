"""A `ControlServer` in a thread with a loop of its own, so that the real, blocking client talks to it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from devstack.api.client import Client, connect
from devstack.api.server import ControlServer
from devstack.keeper.places import Places
from tests.api.scripted import Scripted

T = TypeVar("T")
OPENED: list[Client] = []
"""Closed after each test."""
PATIENCE = 20.0


class Served:
    """A server that runs; `call` does something on its loop."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.control: Scripted
        self.server: ControlServer
        self.failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._may_close: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:
            self.failure = exc
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._may_close = asyncio.Event()
        self.control = Scripted()
        self.server = ControlServer(self.control, self.places)
        serving = asyncio.ensure_future(self.server.serve())
        listening = asyncio.ensure_future(self.server.listening.wait())
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        self._ready.set()
        closing = asyncio.ensure_future(self._may_close.wait())
        await asyncio.wait({serving, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if not serving.done():
            await self.server.close()
        await serving

    def call(self, work: Callable[[], T]) -> T:
        """Do something where the server lives."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)

    def begin_to_close(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._may_close.set)

    def close(self) -> None:
        self.begin_to_close()
        self.join()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def serving(places: Places) -> Iterator[Served]:
    """A server until the end of the block."""
    served = Served(places)
    served.start()
    try:
        yield served
    finally:
        served.close()
    if served.failure is not None:
        raise served.failure


def open_client(places: Places) -> Client | None:
    """A client that is closed after the test."""
    client = connect(places)
    if client is not None:
        OPENED.append(client)
    return client
