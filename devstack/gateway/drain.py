"""Is a replica drained: no connection to its port is left.

NGINX keeps a connection to a replica for at most 300 ms after its last request, so that the count
reaches zero by itself once the table is without the replica.
"""

import asyncio

from devstack.gateway.sockdiag import TcpState, tcp_sockets

_BETWEEN_SECONDS = 0.02


def count_connections(port: int) -> int:
    """Established connections whose server side has `port`, to any local address."""
    return len(tcp_sockets(TcpState.ESTABLISHED, port))


async def wait_drained(port: int, grace_seconds: float) -> bool:
    """Wait until `port` has no connection, twice in a row; False when the grace is over first."""
    try:
        async with asyncio.timeout(grace_seconds):
            quiet = False
            while True:
                if count_connections(port):
                    quiet = False
                elif quiet:
                    return True
                else:
                    quiet = True
                await asyncio.sleep(_BETWEEN_SECONDS)
    except TimeoutError:
        return False
