"""Which engines there are, by the word of the stack file's `engine:`."""

from collections.abc import Mapping

from devstack.engines.base import Engine
from devstack.engines.mongodb import Mongodb
from devstack.engines.mysql import Mysql
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres

_ALL: tuple[Engine, ...] = (Postgres(), Mysql(), Mongodb(), Nats())

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _ALL}
