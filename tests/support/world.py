"""A simulated engine: it keeps every promise an engine makes, and none that it does not make.

`World` holds what is physically so (processes, what NGINX does, what a cluster was told, which source lies
in the folders), apart from State, and looks at every op before its intent is recorded: the safety
properties of the rules are asked of the physical world, with numbers of their own. Actions are small
tuples, so that Hypothesis can shrink a history.
"""

import json
from dataclasses import dataclass, field, replace
from math import ceil
from typing import assert_never

from devstack.core import events as e
from devstack.core.model import (
    GATEWAY,
    Check,
    Condition,
    Endpoint,
    Gateway,
    Restart,
    Service,
    Stack,
    TcpProbe,
    Update,
)
from devstack.core.ops import (
    ApplyWorkload,
    CancelPrepare,
    DrainReplica,
    LoadGateway,
    Op,
    Plan,
    Prepare,
    RemoveWorkload,
    SetRoutes,
    StartReplica,
    StopReplica,
)
from devstack.core.plain import from_plain, to_plain
from devstack.core.reconcile import leaving
from devstack.core.reduce import reduce
from devstack.core.routes import RoutingTable
from devstack.core.shape import wanted_shape
from devstack.core.state import Phase, State
from devstack.core.table import wanted_table
from devstack.core.template import literal
from devstack.engine.snapshot import remembered
from tests.support.history import History, cloud, database, job, needs, nginx, web, worker
from tests.support.history import stack as make_stack

Action = tuple[str, int, int]

NAMES = (GATEWAY, "db", "migrate", "api", "tool", "fixed", "site", "worker", "cloud")
COMPILED = frozenset({"tool", "site"})
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
TIMES = (0.02, 0.3, 0.7, 1.5, 5.0, 11.0, 40.0, 130.0)


@dataclass
class Process:
    """A replica as it is, whatever State believes."""

    replica: str
    service: str
    slot: int
    revision: str
    asked_at: float
    addresses: tuple[tuple[str, str], ...] = ()
    spawned: bool = False
    running: bool = False
    ready: bool = False
    was_ready: bool = False
    ready_at: float | None = None
    dead: bool = False
    draining: bool = False
    drained: bool = False
    stopping: bool = False
    failing_stop: bool = False

    @property
    def key(self) -> tuple[str, int, str]:
        return self.service, self.slot, self.revision

    @property
    def serves(self) -> bool:
        return self.ready and self.current and not self.dead

    @property
    def current(self) -> bool:
        return not self.draining and not self.stopping


@dataclass
class Record:
    """How a revision fared in a slot, as a bystander with a watch would write it down."""

    failures: int = 0
    last_end: float = 0.0
    jitter: float = 0.0
    for_good: bool = False

    def earliest(self) -> float:
        if not self.failures:
            return 0.0
        gap = BACK_OFF[min(self.failures, len(BACK_OFF)) - 1]
        return self.last_end + gap * (1 + 0.25 * self.jitter)


@dataclass
class Nginx:
    """What the gateway's program does."""

    replica: str
    shape: e.GatewayShape
    table: RoutingTable
    confirmed: bool = False

    @property
    def slots(self) -> dict[str, int]:
        return dict(self.shape.slots)


@dataclass
class World(History):
    """See the module's docstring."""

    processes: dict[str, Process] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    preparing: dict[str, str] = field(default_factory=dict)
    cancelling: set[str] = field(default_factory=set)
    """Preparations that are being killed."""
    artifacts: set[tuple[str, str]] = field(default_factory=set)
    prepare_failed: set[tuple[str, str]] = field(default_factory=set)
    records: dict[tuple[str, int, str], Record] = field(default_factory=dict)
    nginx: Nginx | None = None
    setting: RoutingTable | None = None
    loading: e.GatewayShape | None = None
    routes_failures: int = 0
    """In a row, and since the stack closes."""
    """In a row."""
    cluster: dict[str, tuple[str, int]] = field(default_factory=dict)
    applying: dict[str, tuple[str, int]] = field(default_factory=dict)
    removing: set[str] = field(default_factory=set)
    told_last: dict[str, tuple[str, int]] = field(default_factory=dict)
    completed: set[tuple[str, str, int]] = field(default_factory=set)
    data: int = 1
    ever_ready: set[tuple[str, str]] = field(default_factory=set)
    serving: set[str] = field(default_factory=set)
    """When the plan was made: ops of one plan are decided together."""
    used_ids: set[str] = field(default_factory=set)
    lost: bool = False
    gateway_was_loaded: bool = False

    def __post_init__(self) -> None:
        History.__init__(self)

    # ── what people do ────────────────────────────────────────────────────────────────────────

    def act(self, action: Action) -> None:
        """One thing happens; then the core settles."""
        kind, a, b = action
        before = len(self.journal), self.now
        getattr(self, f"do_{kind}")(a, b)
        if (len(self.journal), self.now) != before:
            self.settle()
            self.check_rest()

    def service_named(self, a: int) -> Service | None:
        if self.state.stack is None:
            return None
        names = sorted(self.state.stack.services)
        return self.state.stack.services[names[a % len(names)]]

    def do_apply(self, a: int, b: int) -> None:
        applied = some_stack(a, b)
        self.forget_records(*applied.services)
        self.prepare_failed.clear()
        sources = tuple((n, str(self.sources.get(n, 0))) for n in applied.services)
        self.record(e.StackApplied(stack=applied, sources=sources))

    def forget_records(self, *names: str) -> None:
        for key in [key for key in self.records if key[0] in names]:
            del self.records[key]

    def do_scale(self, a: int, b: int) -> None:
        service = self.service_named(a)
        if service is None or service.name == GATEWAY or service.is_job:
            return
        wish = (None, 0, 1, 2, 3, 5, 1, 2)[b % 8]
        if (service.has_fixed_port or service.is_engine) and wish is not None:
            wish = min(wish, 1)
        self.record(e.ScaleRequested(service.name, wish))

    def do_stop(self, a: int, b: int) -> None:
        service = self.service_named(a)
        if service is not None and service.name != GATEWAY:
            self.record(e.StopRequested(service.name))

    def do_start(self, a: int, b: int) -> None:
        service = self.service_named(a)
        if service is not None:
            self.forget_wish(service.name)
            self.record(e.StartRequested(service.name))

    def do_restart(self, a: int, b: int) -> None:
        service = self.service_named(a)
        if service is not None:
            self.forget_wish(service.name)
            self.record(e.RestartRequested(service.name))

    def carry_records(self, name: str, before: str | None) -> None:
        """Who changes its own source has failed as often as before."""
        revision = self.state.wanted_revision(name)
        if revision is None:
            return
        for (of, slot, tried), record in list(self.records.items()):
            here = [p for p in self.processes.values() if (p.service, p.slot) == (name, slot)]
            if (of, tried) == (name, before) and not any(p.current for p in here):
                self.records[name, slot, revision] = replace(record, for_good=False)

    def forget_wish(self, name: str) -> None:
        self.forget_records(name)
        self.prepare_failed = {p for p in self.prepare_failed if p[0] != name}

    def do_down(self, a: int, b: int) -> None:
        if b % 3 == 0:
            self.routes_failures = 0
            self.record(e.DownRequested("down"))

    def do_edit(self, a: int, b: int) -> None:
        """Somebody saves a file; it may be noticed only when a replica is started."""
        service = self.service_named(a)
        if service is None or service.is_engine:
            return
        self.sources[service.name] = self.sources.get(service.name, 0) + 1
        if b % 3:
            self.record(e.SourceChanged(service.name, str(self.sources[service.name])))

    def do_reset(self, a: int, b: int) -> None:
        if not any(p.service == "db" for p in self.processes.values()) and (
            self.state.of("db").preparing is None
        ):
            self.data += 1
            self.artifacts = {p for p in self.artifacts if p[0] != "db"}
            self.forget_wish("migrate")
            if self.state.is_listed("db"):
                self.record(e.DataReset("db"))

    def do_well(self, a: int, b: int) -> None:
        """For a while everything goes well, so that histories get somewhere."""
        for _ in range(a % 8 + 1):
            self.kind_step()

    def do_time(self, a: int, b: int) -> None:
        self.now += TIMES[a % len(TIMES)]
        if self.lost:
            self.do_keeper(0, 0)

    # ── what becomes of ops ───────────────────────────────────────────────────────────────────

    def do_prepare(self, a: int, b: int) -> None:
        """A preparation ends: well, badly, with its keeper, or since it was cancelled.

        One that is cancelled may have ended in another way just before.
        """
        if not self.preparing:
            return
        name = sorted(self.preparing)[a % len(self.preparing)]
        revision = self.preparing.pop(name)
        outcome = 1 if name in self.cancelling and b % 2 else b % 16
        self.cancelling.discard(name)
        if outcome == 0:
            self.prepare_failed.add((name, revision))
            self.record(e.PrepareFailed(name, revision, f"cannot build {name}"))
        elif outcome == 1:
            self.record(e.PrepareAbandoned(name, revision))
        else:
            self.artifacts.add((name, revision))
            data_id = f"data-{self.data}" if name == "db" else None
            artifact = e.Artifact(revision, is_compiled=name in COMPILED, data_id=data_id)
            self.record(e.PrepareSucceeded(name, revision, artifact))

    def pick(self, a: int, processes: list[Process]) -> Process | None:
        return processes[a % len(processes)] if processes else None

    def do_spawn(self, a: int, b: int) -> None:
        """A start ends: with a process, badly, or given up since the source is newer."""
        process = self.pick(a, [p for p in self.processes.values() if not p.spawned])
        if process is None:
            return
        name = process.service
        digest = str(self.sources.get(name, 0))
        if name not in COMPILED and digest != self.state.of(name).source:
            del self.processes[process.replica]
            before = self.state.wanted_revision(name)
            self.record(e.SourceChanged(name, digest, found_at_start=True))
            self.carry_records(name, before)
            self.record(e.ReplicaStartSkipped(process.replica))
            return
        is_permanent = b % 16 == 1
        if is_permanent or b % 16 == 2:
            del self.processes[process.replica]
            jitter = (b % 5 - 2) / 2
            if not process.stopping:
                self.count_failure(process, jitter, for_good=is_permanent)
            message = f"cannot start {name}: no such program"
            self.record(e.ReplicaStartFailed(process.replica, message, is_permanent, jitter))
            return
        self.spawn(process)
        self.record(
            e.ReplicaSpawned(process.replica, 1, process.addresses, 1.0, not process.running)
        )

    def spawn(self, process: Process) -> None:
        service = self.definition(process)
        process.spawned = True
        process.running = service.startup is None
        if process.service == GATEWAY:
            shape = self.state.gateway.loaded or e.GatewayShape()
            self.nginx = Nginx(process.replica, shape, RoutingTable())
        port = 20000 + len(self.used_ids)
        process.addresses = tuple((p.name, f"127.0.0.1:{port}") for p in service.endpoints)

    def do_confirm(self, a: int, b: int) -> None:
        """NGINX was started and now serves: with the table that was wanted when it started."""
        if self.nginx is None or self.nginx.confirmed:
            return
        shape = wanted_shape(self.state)
        self.nginx.shape = shape
        self.nginx.table = wanted_table(self.state, frozenset(leaving(self.state)), shape)
        self.nginx.confirmed = True
        self.record(e.GatewayLoaded(shape))

    def do_ready(self, a: int, b: int) -> None:
        """A replica becomes ready."""
        unready = [
            p
            for p in self.processes.values()
            if p.spawned
            and p.running
            and not p.ready
            and p.current
            and not self.definition(p).is_job
            and (p.service != GATEWAY or (self.nginx is not None and self.nginx.confirmed))
        ]
        process = self.pick(a, unready)
        if process is not None:
            process.ready = process.was_ready = True
            process.ready_at = self.now
            if process.revision == self.state.of(process.service).desired:
                self.ever_ready.add((process.service, process.revision))
            self.gateway_was_loaded |= process.service == GATEWAY
            self.record(e.ReadinessChanged(process.replica, True))

    def do_startup(self, a: int, b: int) -> None:
        starting = [p for p in self.processes.values() if p.spawned and not p.running]
        process = self.pick(a, starting)
        if process is not None:
            process.running = True
            self.record(e.StartupPassed(process.replica))

    def do_unready(self, a: int, b: int) -> None:
        process = self.pick(a, [p for p in self.processes.values() if p.ready and p.current])
        if process is None:
            return
        if process.ready_at is not None and self.now - process.ready_at >= 10:
            self.records.pop((process.service, process.slot, process.revision), None)
        process.ready, process.ready_at = False, None
        self.record(e.ReadinessChanged(process.replica, False, "no answer"))

    def do_die(self, a: int, b: int) -> None:
        """Liveness fails."""
        process = self.pick(a, [p for p in self.processes.values() if p.spawned and p.current])
        if process is not None:
            process.dead = True
            self.record(e.LivenessFailed(process.replica, "no answer"))

    def do_exit(self, a: int, b: int) -> None:
        """A process ends by itself, or because it was asked to."""
        process = self.pick(a, [p for p in self.processes.values() if p.spawned])
        if process is not None:
            code = (0, 1, None)[b % 3]
            self.end(process, code, jitter=(b % 5 - 2) / 2, is_loss=b % 11 == 10)

    def do_reap(self, a: int, b: int) -> None:
        """A process that was asked to end does so."""
        process = self.pick(a, [p for p in self.processes.values() if p.spawned and p.stopping])
        if process is not None:
            self.end(process, (0, None)[b % 2], jitter=0.0, is_loss=False)

    def end(self, process: Process, code: int | None, *, jitter: float, is_loss: bool) -> None:
        del self.processes[process.replica]
        if self.nginx is not None and self.nginx.replica == process.replica:
            self.nginx = None
            self.setting = self.loading = None
            self.routes_failures = 0
        service = self.definition(process)
        asked = (process.stopping or process.draining) and not process.failing_stop
        if not asked and not is_loss:
            failed = process.failing_stop or code != 0
            if service.is_job and not failed:
                if any(name == "db" for name, _ in self.artifacts) or not service.depends_on:
                    self.completed.add((process.service, process.revision, self.data))
            elif not failed and service.restart is not Restart.ALWAYS:
                # one that ended well fails no more, whatever is made of its source
                self.records[process.key] = Record(for_good=True)
            else:
                self.count_failure(
                    process,
                    jitter,
                    for_good=service.is_job or service.restart is Restart.NEVER,
                )
        signal = 15 if code is None else None
        self.record(e.ReplicaExited(process.replica, e.Exit(code, signal), jitter, is_loss=is_loss))

    def record_of(self, process: Process) -> Record:
        return self.records.setdefault(process.key, Record())

    def count_failure(self, process: Process, jitter: float, *, for_good: bool) -> None:
        record = self.record_of(process)
        good_life = process.ready_at is not None and self.now - process.ready_at >= 10
        record.failures = 1 if good_life else record.failures + 1
        record.last_end, record.jitter, record.for_good = self.now, jitter, for_good

    def definition(self, process: Process) -> Service:
        service = self.state.definition(process.service)
        assert service is not None
        return service

    def do_drain(self, a: int, b: int) -> None:
        draining = [p for p in self.processes.values() if p.draining and not p.drained]
        process = self.pick(a, draining)
        if process is not None:
            process.drained = True
            self.record(e.ReplicaDrained(process.replica))

    def do_routes(self, a: int, b: int) -> None:
        if self.setting is None or self.nginx is None:
            return
        table, self.setting = self.setting, None
        if b % 5 == 0:
            self.routes_failures += 1
            self.record(e.RoutesFailed("the gateway does not answer"))
        else:
            self.nginx.table = table
            self.routes_failures = 0
            self.record(e.RoutesApplied(table))

    def do_deaf(self, a: int, b: int) -> None:
        """For a while NGINX takes no table."""
        for _ in range(a):
            self.do_routes(0, 0)
            self.settle()
            self.check_rest()
            self.now += 0.21
            self.settle()
            self.check_rest()

    def do_load(self, a: int, b: int) -> None:
        if self.loading is None or self.nginx is None:
            return
        shape, self.loading = self.loading, None
        if b % 4 == 0:
            self.record(e.GatewayLoadFailed(shape, "port 8080 is in use"))
        else:
            self.nginx.shape = shape
            self.record(e.GatewayLoaded(shape))

    def do_cluster(self, a: int, b: int) -> None:
        """What the cluster makes of what it was told."""
        if self.applying:
            name = sorted(self.applying)[a % len(self.applying)]
            revision, count = self.applying.pop(name)
            if b % 4 == 0:
                self.told_last.pop(name, None)
                self.record(e.WorkloadFailed(name, "refused", permanent=b % 8 == 4))
            else:
                self.cluster[name] = (revision, count)
                self.record(e.WorkloadApplied(name, revision, count))
        elif self.removing:
            name = sorted(self.removing)[a % len(self.removing)]
            self.removing.discard(name)
            if b % 4 == 0:
                self.told_last.pop(name, None)
                self.record(e.WorkloadFailed(name, "no answer"))
            else:
                self.cluster.pop(name, None)
                self.told_last.pop(name, None)
                self.record(e.WorkloadRemoved(name))
        elif self.cluster:
            name = sorted(self.cluster)[a % len(self.cluster)]
            count = self.cluster[name][1] + b % 3 - 1
            pods = tuple(
                e.ObservedReplica(f"{name}-{i}{b}", ready=bool(b % 2)) for i in range(max(0, count))
            )
            self.record(e.WorkloadObserved(name, pods))

    def do_keeper(self, a: int, b: int) -> None:
        """The keeper is lost with all it ran; later there is another."""
        if self.lost:
            self.lost = False
            self.record(e.RuntimeFound("fake"))
            return
        if b % 4:
            return
        self.lost = True
        self.record(e.RuntimeLost("fake", "the keeper was killed"))
        for name, revision in sorted(self.preparing.items()):
            if name != "cloud":
                self.record(e.PrepareAbandoned(name, revision))
        self.preparing = {n: r for n, r in self.preparing.items() if n == "cloud"}
        self.cancelling &= self.preparing.keys()
        for process in list(self.processes.values()):
            if process.spawned:
                self.end(process, None, jitter=0.0, is_loss=True)
            else:
                del self.processes[process.replica]
                self.record(e.ReplicaStartSkipped(process.replica))

    def do_successor(self, a: int, b: int) -> None:
        """The controller is killed and another one adopts what it left.

        What was under way takes effect or not, and in half of the cases processes end meanwhile. Where
        nothing changed, nothing is started and nothing stopped but what was leaving before.
        """
        state = self.state
        if state.stack is None or state.closing or state.removed or self.lost:
            return
        kept = json.loads(json.dumps([to_plain(remembered(state, n)) for n in state.services]))
        done = {n: s.completed for n, s in state.services.items() if s.completed}
        gone = set(leaving(state)) | {p.replica for p in self.processes.values() if not p.current}
        replicas = set(self.processes)
        has_new = any(not p.spawned for p in self.processes.values())
        ending = [r for i, r in enumerate(self.processes) if b % 2 and (i + b) % 3 == 0]
        self.lose_what_was_under_way(a, b)
        sources = tuple((n, str(self.sources.get(n, 0))) for n in state.stack.services)
        self.state, self.journal = State(), []
        self.record(e.StackApplied(stack=state.stack, sources=sources))
        for name, keys in done.items():
            self.record(e.JobRecalled(name, tuple(keys)))
        for raw in kept:
            self.record(from_plain(raw, e.Restored))
        for process in list(self.processes.values()):
            was_told = process.stopping and a % 2 == 0
            self.record(found(process, is_stopping=was_told))
            if process.replica in ending:
                self.end(process, (0, 1, None)[a % 3], jitter=(a % 5 - 2) / 2, is_loss=False)
        if self.nginx is not None and self.nginx.confirmed:
            self.record(e.GatewayLoaded(self.nginx.shape))
        self.planned.clear()
        self.settle()
        is_edited = any(state.of(name).source != digest for name, digest in sources)
        if has_new or is_edited or replicas != set(self.processes):
            return
        for op in self.planned:
            assert not isinstance(op, StartReplica), f"{op}: nothing changed"
            if isinstance(op, DrainReplica | StopReplica):
                assert op.replica in gone, f"{op}: nothing changed"

    def lose_what_was_under_way(self, a: int, b: int) -> None:
        """Tasks of a controller end with it; what they had asked of others by then is done."""
        self.preparing.clear()
        self.cancelling.clear()
        self.told_last.clear()
        if a % 2:
            self.cluster |= self.applying
            for name in self.removing:
                self.cluster.pop(name)
        self.applying.clear()
        self.removing.clear()
        if self.setting is not None and self.nginx is not None and b % 4 < 2:
            self.nginx.table = self.setting
        self.setting = self.loading = None
        for process in list(self.processes.values()):
            if not process.spawned and a % 3 == 0:
                del self.processes[process.replica]
            elif not process.spawned:
                self.spawn(process)

    def do_ghost(self, a: int, b: int) -> None:
        """Law 5: facts about replicas that are gone change nothing."""
        gone = sorted(self.used_ids - set(self.processes))
        if not gone:
            return
        replica = gone[a % len(gone)]
        for event in ghosts(replica, self.now):
            assert reduce(self.state, event) == self.state, event

    # ── safety: every plan, every op, every rest ──────────────────────────────────────────────

    def look_at(self, plan: Plan) -> None:
        """Law 3, and a wake-up is in the future."""
        self.serving = {p.replica for p in self.processes.values() if p.serves}
        touched = [
            op.replica
            for op in plan.ops
            if isinstance(op, StartReplica | DrainReplica | StopReplica)
        ]
        assert len(touched) == len(set(touched)), f"two ops for one replica: {plan.ops}"
        slots = [(op.service, op.slot) for op in plan.ops if isinstance(op, StartReplica)]
        assert len(slots) == len(set(slots)), f"two starts in one slot: {plan.ops}"
        assert plan.wake_at is None or plan.wake_at > self.now

    def about_to(self, op: Op) -> None:
        match op:
            case Prepare():
                self.check_prepare(op)
            case CancelPrepare():
                self.check_cancel(op)
            case StartReplica():
                self.check_start(op)
            case DrainReplica():
                self.check_drain(op)
            case StopReplica():
                self.check_stop(op)
            case SetRoutes():
                self.check_routes(op)
            case LoadGateway():
                assert not self.state.closing, "a closing stack loads nothing"
                assert self.loading is None, "one load at a time"
                assert op.shape != self.state.gateway.loaded, "a load that changes nothing"
                assert self.nginx is not None
                assert self.nginx.confirmed
                self.loading = op.shape
            case ApplyWorkload():
                self.check_apply(op)
            case RemoveWorkload():
                assert self.state.closing or not self.state.is_listed(op.service)
                assert op.service not in self.removing
                assert op.service not in self.applying
                if self.state.closing:
                    assert not self.living_dependents(op.service), "dependents go first"
                self.removing.add(op.service)

    def check_prepare(self, op: Prepare) -> None:
        name = op.service
        assert not self.state.closing, "a closing stack prepares nothing"
        assert name not in self.preparing, f"{name} is prepared twice at once"
        assert op.revision == self.state.wanted_revision(name), "only the newest is prepared"
        assert self.state.wanted_count(name) > 0, f"{name} is not wanted"
        assert (name, op.revision) not in self.prepare_failed, "a failed one is not tried again"
        assert self.state.of(name).desired != op.revision, "it is prepared already"
        if name != "cloud":
            assert not self.lost, "a lost runtime prepares nothing"
        self.preparing[name] = op.revision

    def check_cancel(self, op: CancelPrepare) -> None:
        name = op.service
        assert self.preparing[name] == op.revision, f"{name} prepares something else"
        assert name not in self.cancelling, f"{name} is cancelled twice"
        assert not self.is_wanted(name, op.revision), f"what {name} wants is cancelled: {op.cause}"
        assert op.cause
        self.cancelling.add(name)

    def is_wanted(self, name: str, revision: str) -> bool:
        is_newest = revision == self.state.wanted_revision(name)
        return is_newest and self.state.wanted_count(name) > 0

    def check_start(self, op: StartReplica) -> None:
        name, service = op.service, self.state.definition(op.service)
        assert service is not None
        assert not self.state.closing, "a closing stack starts nothing"
        assert not self.lost, "a lost runtime starts nothing"
        assert op.replica not in self.used_ids, f"{op.replica} was used before"
        assert self.state.is_listed(name)
        assert op.slot <= self.state.wanted_count(name), f"{op.replica} is not wanted"
        beside = [p for p in self.processes.values() if (p.service, p.slot) == (name, op.slot)]
        current = [p for p in beside if p.current]
        assert len(current) <= 1, f"a third current replica on the slot of {op.replica}"
        assert all(p.revision != op.revision for p in current), f"a second copy of {op.replica}"
        assert not any(p.failing_stop and p.revision == op.revision for p in beside), (
            f"{op.replica} starts before the failure of the last one is counted"
        )
        assert len(beside) < 4, f"no port is left for {op.replica}"
        if service.update is Update.RECREATE or service.has_fixed_port:
            assert not beside, f"{op.replica} shares its slot with {beside[0].replica}"
        self.check_dependencies(service)
        if service.is_job:
            assert (name, op.revision, self.data) not in self.completed, f"{op.replica} ran before"
        record = self.records.get((name, op.slot, op.revision), Record())
        assert not record.for_good, f"{op.replica}: its revision ended for good"
        assert self.now >= record.earliest() - 1e-9, f"{op.replica} starts before its back-off"
        assert (name, op.revision) in self.artifacts, f"{op.replica}: not prepared"
        known = self.state.of(name)
        if name not in COMPILED:
            assert op.revision == self.state.wanted_revision(name), "not what the tree holds"
        else:
            assert op.revision in (known.desired, known.good)
        self.check_update(service, op, current)
        self.used_ids.add(op.replica)
        self.processes[op.replica] = Process(op.replica, name, op.slot, op.revision, self.now)

    def check_dependencies(self, service: Service) -> None:
        for dependency in service.depends_on:
            target = dependency.service
            seen = [p for p in self.processes.values() if p.service == target]
            observed = [r for r in self.state.replicas_of(target) if r.observed]
            match dependency.condition:
                case Condition.READY:
                    is_met = any(p.replica in self.serving for p in seen) or any(
                        r.ready for r in observed
                    )
                case Condition.STARTED:
                    is_met = any(p.running for p in seen) or bool(observed)
                case Condition.COMPLETED:
                    revision = self.state.wanted_revision(target)
                    assert revision is not None
                    is_met = (target, revision, self.data) in self.completed
                case _:
                    assert_never(dependency.condition)
            assert is_met, f"{service.name} starts before {target} is {dependency.condition}"
            if dependency.condition is Condition.READY and self.must_be_routed(target):
                assert self.nginx is not None
                keys = [key for key, targets in self.nginx.table.ready.items() if targets]
                assert target in {key.partition(".")[0] for key in keys}, (
                    f"{service.name} starts before anybody can reach {target}"
                )
        if service.is_balanced and self.state.is_listed(GATEWAY):
            assert self.gateway_was_loaded, f"{service.name} starts before the first load"

    def must_be_routed(self, target: str) -> bool:
        """Whether callers reach a service through an NGINX that does as it is told."""
        service = self.state.definition(target)
        return (
            service is not None
            and service.is_balanced
            and self.gateway_takes_requests()
            and self.routes_failures < 10
            and self.state.gateway.load_error is None
        )

    def check_update(self, service: Service, op: StartReplica, current: list[Process]) -> None:
        """One canary until the revision was ready once; then a quarter at a time."""
        if not current:
            return
        replacing = {
            p.slot
            for p in self.processes.values()
            if p.service == op.service
            and p.revision == op.revision
            and p.current
            and not p.ready
            and any(
                o.current
                and o.revision != op.revision
                and (o.service, o.slot) == (p.service, p.slot)
                for o in self.processes.values()
            )
        }
        proven = self.state.of(op.service).good == op.revision
        if proven:
            assert (op.service, op.revision) in self.ever_ready
        room = max(1, ceil(self.state.wanted_count(op.service) / 4)) if proven else 1
        if current[0].ready:
            assert len(replacing) < room, f"{op.replica} is one too many in replacement"
        if not proven:
            tried = {
                slot
                for (name, slot, revision), record in self.records.items()
                if (name, revision) == (op.service, op.revision)
                and (record.failures or record.for_good)
                and slot <= self.state.wanted_count(op.service)
            }
            assert not tried or op.slot in tried, "a failing canary is followed by others"

    def living_dependents(self, name: str) -> list[str]:
        alive = {p.service for p in self.processes.values()} | set(self.cluster)
        return [d for d in self.state.dependents(name) if d in alive]

    def is_in_nginx(self, process: Process) -> bool:
        if self.nginx is None or not self.nginx.confirmed:
            return False
        tables = [self.nginx.table, *([self.setting] if self.setting is not None else [])]
        return any(
            t.replica == process.replica
            for table in tables
            for targets in table.ready.values()
            for t in targets
        )

    def gateway_takes_requests(self) -> bool:
        process = self.processes.get(self.nginx.replica) if self.nginx is not None else None
        return (
            self.nginx is not None
            and self.nginx.confirmed
            and process is not None
            and process.current
        )

    def check_drain(self, op: DrainReplica) -> None:
        process = self.processes[op.replica]
        assert not self.state.closing, "a closing stack drains nothing"
        assert process.current, f"{op.replica} drains already"
        assert not self.is_in_nginx(process) or self.routes_failures >= 10, (
            f"{op.replica} drains while NGINX routes to it"
        )
        self.check_may_leave(process, op.cause)
        process.draining = True

    def check_stop(self, op: StopReplica) -> None:
        process = self.processes[op.replica]
        service = self.definition(process)
        assert not process.stopping, f"{op.replica} is stopped twice"
        if self.state.closing:
            assert not self.living_dependents(process.service), (
                f"{op.replica} stops before its dependents"
            )
            if self.is_in_nginx(process) and self.gateway_takes_requests():
                assert self.routes_failures, f"{op.replica} stops while NGINX routes to it"
        elif process.dead:
            assert op.is_failure == process.current
        elif op.is_failure:
            assert self.now - process.asked_at >= service.start_timeout_seconds
            assert not process.was_ready
            assert any(p.serves for p in self.beside(process)), "nobody serves in its place"
        elif process.draining:
            has_no_port = len([*self.beside(process)]) + 1 >= 4
            assert process.drained or has_no_port or not self.gateway_takes_requests(), (
                f"{op.replica} is stopped while it drains"
            )
            if not process.drained and has_no_port:
                older = [p for p in self.beside(process) if p.draining and not p.stopping]
                assert all(process.asked_at <= p.asked_at for p in older), "not the oldest"
        else:
            has_callers = bool(service.endpoints) and not service.is_engine
            if has_callers and process.was_ready:
                assert not self.gateway_takes_requests(), f"{op.replica} is not drained"
            self.check_may_leave(process, op.cause)
        process.stopping = True
        process.failing_stop = op.is_failure
        process.ready = False

    def beside(self, process: Process) -> list[Process]:
        return [
            p
            for p in self.processes.values()
            if (p.service, p.slot) == (process.service, process.slot) and p is not process
        ]

    def check_may_leave(self, process: Process, cause: str) -> None:
        """Nothing that serves and is wanted goes unless another serves, or two must never be."""
        service = self.definition(process)
        name = process.service
        wanted = self.state.is_listed(name) and (
            process.slot <= self.state.wanted_count(name)
            or (service.is_job and not self.state.override(name).stopped)
        )
        if not wanted:
            return
        assert not service.is_job, f"{process.replica}: a job ends by itself"
        desired = self.state.of(name).desired
        assert process.revision != desired, f"{process.replica} is what is wanted: {cause}"
        if service.update is Update.RECREATE or service.has_fixed_port:
            assert (name, desired) in self.artifacts
            self.check_dependencies(service)
            return
        others = [p for p in self.beside(process) if p.current]
        if process.serves:
            assert any(p.serves for p in others), f"{process.replica} leaves and nobody serves"
        assert others, f"{process.replica} leaves an empty slot"

    def check_routes(self, op: SetRoutes) -> None:
        assert self.setting is None, "one table at a time"
        assert self.nginx is not None
        for targets in op.table.ready.values():
            for target in targets:
                process = self.processes[target.replica]
                assert not self.state.closing, "a closing stack routes to nobody"
                assert process.serves, f"{target.replica} does not serve and is routed to"
                service = self.definition(process)
                if service.is_balanced:
                    blocks = self.nginx.slots.get(process.service, 0)
                    assert process.slot <= blocks, f"{target.replica} has no block"
        self.setting = op.table

    def check_apply(self, op: ApplyWorkload) -> None:
        name = op.service
        assert not self.state.closing, "a closing stack applies nothing"
        assert name not in self.applying, f"{name} is applied twice at once"
        assert name not in self.removing
        told = (op.revision, op.count)
        assert told != self.told_last.get(name), f"{name} is told the same again"
        assert (name, op.revision) in self.artifacts
        assert op.count == self.state.wanted_count(name)
        self.applying[name] = told
        self.told_last[name] = told

    def check_rest(self) -> None:
        """Law 4 and what is true whenever the core has settled."""
        state = self.state
        for name in state.stack.services if state.stack is not None else ():
            service = state.stack.services[name] if state.stack is not None else None
            assert service is not None
            if not service.runtime.owns_replicas:
                continue
            for slot in range(1, state.wanted_count(name) + 1):
                here = [p for p in self.processes.values() if (p.service, p.slot) == (name, slot)]
                held = any(h.service == name and h.slot == slot for h in self.plan.holds)
                assert any(p.current for p in here) or held, f"{name}.{slot}: why is it empty?"
        for name, revision in self.preparing.items():
            assert name in self.cancelling or self.is_wanted(name, revision), (
                f"nobody wants what {name} prepares"
            )
        assert set(self.processes) == {r.id for r in state.replicas.values() if not r.observed}
        if state.closing and state.is_empty:
            assert not self.preparing, "it is down and something is prepared"
        for hold in self.plan.holds:
            assert hold.reason, hold
            assert hold.until is None or hold.until >= self.now

    def record(self, event: e.Event) -> None:
        """Phases move forward only, whatever is told in whatever order."""
        before = self.state.replicas
        super().record(event)
        order = [Phase.STARTING, Phase.RUNNING, Phase.STOPPING]
        for replica in self.state.replicas.values():
            if replica.id in before and not replica.observed:
                was = before[replica.id]
                assert order.index(replica.phase) >= order.index(was.phase), event
                assert was.draining <= replica.draining, event
        if isinstance(event, e.WorkloadObserved):
            planned = len(self.planned)
            self.settle()
            assert len(self.planned) == planned or self.only_dependents_act(planned), (
                f"an observation caused {self.planned[planned:]}"
            )

    def only_dependents_act(self, since: int) -> bool:
        """An observed replica may satisfy a dependency; it never causes an op for its workload."""
        return not any(
            isinstance(op, ApplyWorkload | RemoveWorkload) for op in self.planned[since:]
        )

    # ── the end of a history ──────────────────────────────────────────────────────────────────

    def be_kind(self) -> None:
        """Everything works from now on, and whoever ran `up` runs it again."""
        for _ in range(3):
            self.kind_step()
        for _ in range(20):
            # the end of one that was given up counts against its slot whenever it comes
            if any(p.failing_stop for p in self.processes.values()):
                self.kind_step()
        if self.state.stack is not None and not self.state.closing:
            self.forget_records(*self.state.stack.services)
            self.prepare_failed.clear()
            sources = tuple((n, str(self.sources.get(n, 0))) for n in self.state.stack.services)
            self.record(e.StackApplied(stack=self.state.stack, sources=sources))
            self.settle()
            self.check_rest()
        for _ in range(400):
            if not self.kind_step():
                return
        raise AssertionError(f"it never comes to rest: {self.plan}")

    def kind_step(self) -> bool:
        """Whatever is under way ends well; else time passes to the next wake-up."""
        last = len(self.journal)
        if self.lost:
            self.act(("keeper", 0, 0))
        for kind in ("prepare", "startup", "confirm", "drain", "reap", "ready"):
            for _ in range(4):
                self.act((kind, 0, 7))
        self.act(("routes", 0, 1))
        self.act(("load", 0, 1))
        unspawned = [p for p in self.processes.values() if not p.spawned]
        if unspawned:
            self.act(("spawn", 0, 7))
        if self.applying or self.removing:
            self.act(("cluster", 0, 1))
        for process in list(self.processes.values()):
            if self.definition(process).is_job and process.running and not process.stopping:
                self.end(process, 0, jitter=0.0, is_loss=False)
                self.settle()
        for name, (_, count) in sorted(self.cluster.items()):
            seen = [r for r in self.state.replicas_of(name) if r.observed]
            right = len(seen) == count and all(r.ready for r in seen)
            if not right and name not in self.removing:
                pods = tuple(e.ObservedReplica(f"{name}-{i}", ready=True) for i in range(count))
                self.record(e.WorkloadObserved(name, pods))
                self.settle()
        if len(self.journal) > last:
            return True
        if self.plan.wake_at is not None:
            self.now = self.plan.wake_at
            self.settle()
            return True
        return False

    def check_converged(self) -> None:
        state = self.state
        if state.closing:
            assert state.is_empty, f"left over: {state.replicas}"
            assert not self.processes
            assert not self.cluster
            return
        if state.stack is None:
            return
        for name, service in state.stack.services.items():
            count = state.wanted_count(name)
            if service.is_job and not state.override(name).stopped:
                if self.can_run(service):
                    assert state.is_completed(name), f"{name} is not done: {self.plan.holds}"
                continue
            if not self.can_run(service):
                continue
            assert state.ready_count(name) == count, f"{name}: {self.plan.holds}"
            if count:
                assert state.of(name).desired == state.wanted_revision(name)
            if service.runtime.owns_replicas:
                found = [p for p in self.processes.values() if p.service == name]
                assert sorted(p.slot for p in found) == list(range(1, count + 1)), found
                assert all(p.revision == state.of(name).desired for p in found)
            if service.is_balanced and self.nginx is not None:
                routed = self.nginx.table.ready.get(name, ())
                assert len(routed) == count, f"{name} is not routed to"
        gone = [r for r in state.replicas.values() if not state.is_listed(r.service)]
        assert not gone, f"not in the file and still there: {gone}"
        assert not state.removed

    def can_run(self, service: Service) -> bool:
        """Whether everything it needs is wanted, too."""
        for dependency in service.depends_on:
            target = self.state.definition(dependency.service)
            assert target is not None
            if target.is_job and self.state.is_completed(target.name):
                continue
            is_off = self.state.wanted_count(target.name) == 0
            if is_off or not self.can_run(target):
                return False
        return True

    def check_replay(self) -> None:
        """The journal from the start leads to the very same State."""
        replayed = State()
        for event in self.journal:
            replayed = reduce(replayed, event)
        assert replayed == self.state


def found(process: Process, *, is_stopping: bool) -> e.ReplicaAdopted:
    """A process as the keeper lists it."""
    return e.ReplicaAdopted(
        process.replica,
        process.service,
        process.slot,
        process.revision,
        1,
        process.addresses,
        1.0,
        is_stopping,
    )


def ghosts(replica: str, now: float) -> tuple[e.Event, ...]:
    return (
        e.ReplicaSpawned(replica, 7, (), 1.0, at=now),
        e.ReplicaStartFailed(replica, "no", permanent=True, at=now),
        e.ReplicaStartSkipped(replica, at=now),
        e.StartupPassed(replica, at=now),
        e.ReadinessChanged(replica, True, at=now),
        e.ReplicaListens(replica, (("main", "[::1]:1"),), at=now),
        e.LivenessFailed(replica, "no", at=now),
        e.ReplicaWarned(replica, "listens beyond loopback", at=now),
        e.ReplicaDrainRequested(replica, "x", at=now),
        e.ReplicaDrained(replica, at=now),
        e.ReplicaStopRequested(replica, "x", at=now),
        e.ReplicaExited(replica, e.Exit(1), at=now),
    )


def some_stack(a: int, b: int) -> Stack:
    """A stack out of two small numbers: which services, how many, which settings."""
    mask = 0xFF if a < 8 else a * 37 + b * 11
    present = {name for i, name in enumerate(NAMES[1:]) if mask >> i & 1}
    present |= {GATEWAY}
    restart = (Restart.ON_FAILURE, Restart.ALWAYS, Restart.NEVER)[b % 3]
    setting = (("LEVEL", literal(str(b // 3 % 2))),)
    count = 1 + (a + b) % 4
    services = {
        GATEWAY: nginx(),
        "db": database(environment=setting),
        "migrate": job(depends_on=needs("db")),
        "api": web(
            "api",
            replicas=count,
            environment=setting,
            depends_on=(*needs("db"), *needs("migrate", how=Condition.COMPLETED)),
        ),
        "tool": web("tool", update=Update.RECREATE, depends_on=needs("db"), restart=restart),
        "fixed": web(
            "fixed", endpoints=(Endpoint("main", 9000, fixed=True),), startup=Check(TcpProbe())
        ),
        "site": web("site", replicas=5 - count, depends_on=needs("api", how=Condition.STARTED)),
        "worker": worker(replicas=count, restart=restart, depends_on=needs("site")),
        "cloud": cloud(replicas=count, depends_on=needs("db")),
    }
    chosen = [
        replace(service, depends_on=tuple(d for d in service.depends_on if d.service in present))
        for name, service in services.items()
        if name in present
    ]
    return make_stack(*chosen, gateway=Gateway(8080))
