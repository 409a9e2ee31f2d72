"""Lowers databases and brokers: a preset with what was written on top."""

from typing import Final

from devstack.config.ground import (
    Ground,
    is_folder,
    lower_stop,
    paths_with_places,
    value_place,
)
from devstack.config.presets import DEFAULT_USER, FAKES, PRESETS, database_name
from devstack.config.probes import timed
from devstack.config.schema import BrokerSection, DatabaseSection, ServerSection
from devstack.config.source import Section
from devstack.core.model import (
    Check,
    Endpoint,
    EngineProgram,
    QueryProbe,
    Restart,
    Scheme,
    Service,
    Update,
)

_SEED_SUFFIXES: Final = (".sql", ".sql.gz", ".js", ".sh")


def lower_database(ground: Ground, name: str, written: DatabaseSection) -> Service:
    at = ground.section("databases", name)
    if written.extensions and not PRESETS[written.engine].has_extensions:
        ground.report.error(
            at.key_place("extensions"), f"'extensions' are for postgres, not {written.engine}"
        )
    program = EngineProgram(
        engine=written.engine,
        version=written.version,
        user=written.user or DEFAULT_USER,
        password=written.password,
        database=written.database or database_name(name),
        extensions=tuple(written.extensions),
        flags=tuple(written.flags),
        seed=_seeds(ground, at, written.seed),
    )
    return _server(ground, "databases", name, written, written.engine, program)


def lower_broker(ground: Ground, name: str, written: BrokerSection) -> Service:
    at = ground.section("broker", name)
    if written.password is not None and written.user is None:
        ground.report.error(at.key_place("password"), "'password' needs a 'user'")
    program = EngineProgram(
        engine=written.engine,
        version=written.version,
        user=written.user,
        password=written.password,
        flags=tuple(written.flags),
        jetstream=written.jetstream,
    )
    return _server(ground, "broker", name, written, written.engine, program)


def _server(
    ground: Ground,
    section: str,
    name: str,
    written: ServerSection,
    engine: str,
    program: EngineProgram,
) -> Service:
    preset = PRESETS[engine]
    at = ground.section(section, name)
    if written.run in FAKES:
        ground.report.error(value_place(at, "run"), f"'run' cannot be '{written.run}' here")
    ready = Check(QueryProbe())
    if written.ready is not None:
        if any((written.ready.http, written.ready.tcp, written.ready.exec, written.ready.log)):
            ground.report.error(
                at.key_place("ready"),
                f"'ready' of {engine} is always a query",
                "interval, timeout, failures and successes can be set",
            )
        ready = timed(QueryProbe(), written.ready)
    return Service(
        name=name,
        kind=preset.kind,
        program=program,
        endpoints=(Endpoint("tcp", written.port or preset.port, Scheme.TCP),),
        # A server that somebody ended by hand is wanted all the same.
        restart=written.restart or Restart.ALWAYS,
        update=Update.RECREATE,
        stop=lower_stop(written.stop, preset.stop),
        ready=ready,
        start_timeout_seconds=written.start_timeout,
        where=str(ground.key_place(section, name)),
    )


def _seeds(ground: Ground, at: Section, written: str | list[str]) -> tuple[str, ...]:
    seeds: list[str] = []
    for text, place in paths_with_places(written, at.get("seed")):
        path = ground.contained(text, place, "seed")
        if path is None:
            continue
        if not is_folder(path) and not path.name.endswith(_SEED_SUFFIXES):
            ground.report.error(
                place,
                f"the seed '{text}' is none of {' '.join(_SEED_SUFFIXES)}",
            )
        seeds.append(str(path))
    return tuple(seeds)
