"""What a hundred HTTP probes a second cost: of one core, in the process that asks."""
# ruff: noqa: ARG002 - a world for the prober, whose questions nobody asks here

import asyncio
import time

from bench.table import Row
from devstack.core.events import Event, ReadinessChanged
from devstack.core.model import Check, Command, Endpoint, HttpProbe, Kind, Service, SourceProgram
from devstack.engine.operations import ProbeTarget
from devstack.engine.probes.prober import ReplicaProber

REPLICAS = 100
SECONDS = 10


def measure(rounds: int) -> list[Row]:
    """A hundred replicas asked once a second by the controller's own prober; they are in another process."""
    del rounds
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    server = await asyncio.create_subprocess_exec(
        "python3", "-c", _SERVER, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    prober = ReplicaProber(_World(server.pid))

    def post(event: Event) -> None:
        assert isinstance(event, ReadinessChanged), event
        assert event.ready, event

    check = Check(HttpProbe("/healthz"), interval_seconds=1.0)
    service = Service("web", Kind.SERVICE, SourceProgram("/"), ready=check,
                      endpoints=(Endpoint("http", 8080),))  # fmt: skip
    serving = asyncio.create_task(prober.serve())
    try:
        await asyncio.sleep(0)
        for n in range(REPLICAS):
            name = f"web.{n}#1"
            address = {"http": f"127.0.0.1:{port}"}
            # as an adopted one, which is asked at its leisure from the first
            prober.watch(ProbeTarget(name, service, address, None, was_ready=True), post)
        await asyncio.sleep(2)
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(SECONDS)
        share = (time.process_time() - before) / (time.monotonic() - began)
        assert not serving.done(), serving
    finally:
        serving.cancel()
        server.terminate()
        await server.wait()
    return [Row(f"{REPLICAS} HTTP probes a second: of one core", 100 * share, 4.0, unit="%")]


class _World:
    """None of these replicas needs more than its socket, which belongs to one process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    async def own_pids(self, replica: str) -> frozenset[int]:
        return frozenset({self._pid})

    async def run(
        self, replica: str, service: Service, command: Command, timeout_seconds: float
    ) -> str:
        raise AssertionError(replica)

    def load_driver(self, service: Service) -> None:
        raise AssertionError

    def query(self, service: Service, timeout_seconds: float) -> str:
        raise AssertionError(service)

    async def ask_gateway(self) -> str:
        raise AssertionError

    def log_has(self, replica: str, service: Service, pattern: str) -> bool:
        raise AssertionError(replica)


_SERVER = """
import asyncio

asked = 0

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
