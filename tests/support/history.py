"""A core without an engine: facts go in, ops come out, time is a number.

`History` does what the controller does and nothing else: record, reconcile until dry, record each
intent. What becomes of the ops is told by the test.
"""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.model import (
    GATEWAY,
    Condition,
    Dependency,
    Endpoint,
    EngineProgram,
    FakeProgram,
    Gateway,
    Kind,
    RuntimeName,
    Service,
    Stack,
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
    intent_of,
)
from devstack.core.reconcile import reconcile
from devstack.core.reduce import reduce
from devstack.core.state import Replica, State

MAX_ROUNDS = 40


class History:
    """State, the journal that led to it, and ops as they were planned."""

    def __init__(self) -> None:
        self.state = State()
        self.now = 1000.0
        self.plan = Plan()
        self.journal: list[e.Event] = []
        self.planned: list[Op] = []
        """Ops since they were last taken."""

    def record(self, event: e.Event) -> None:
        stamped = replace(event, at=self.now)
        self.state = reduce(self.state, stamped)
        self.journal.append(stamped)

    def settle(self) -> None:
        """Reconcile until dry (law 2)."""
        for _ in range(MAX_ROUNDS):
            self.plan = reconcile(self.state, self.now)
            self.look_at(self.plan)
            if not self.plan.ops:
                return
            for op in self.plan.ops:
                self.about_to(op)
                self.record(intent_of(op, self.now))
                self.planned.append(op)
        raise AssertionError(f"reconcile still plans after {MAX_ROUNDS} rounds: {self.plan.ops}")

    def look_at(self, plan: Plan) -> None:
        """Called with every plan; for properties."""

    def about_to(self, op: Op) -> None:
        """Called with every op before its intent is recorded; for properties."""

    # ── the words of examples ─────────────────────────────────────────────────────────────────

    def tell(self, *events: e.Event) -> list[str]:
        """Record facts, one after the other, and answer with what is set in motion by them."""
        for event in events:
            self.record(event)
            self.settle()
        return self.take()

    def wait(self, seconds: float) -> list[str]:
        """Let time pass and answer with what is set in motion."""
        self.now += seconds
        self.settle()
        return self.take()

    def take(self) -> list[str]:
        planned, self.planned = self.planned, []
        return [words(op) for op in planned]

    def up(self, *services: Service, gateway: Gateway | None = None, **sources: str) -> list[str]:
        """Apply a stack of these services."""
        digests = tuple((s.name, sources.get(s.name, "source-1")) for s in services)
        return self.tell(e.StackApplied(stack=stack(*services, gateway=gateway), sources=digests))

    def up_behind_nginx(self) -> None:
        """`web` is ready behind a gateway that has yet to be told its routes."""
        self.up(nginx(), web())
        self.prepared("gateway")
        self.prepared("web")
        self.start("gateway.1#1")
        self.loaded()
        self.routed()
        self.start("web.1#1")

    def prepared(
        self, name: str, *, compiled: bool = False, data_id: str | None = None
    ) -> list[str]:
        revision = self.state.of(name).preparing
        assert revision is not None, f"{name} is not being prepared"
        artifact = e.Artifact(digest=revision, is_compiled=compiled, data_id=data_id)
        return self.tell(e.PrepareSucceeded(name, revision, artifact))

    def not_prepared(self, name: str, message: str) -> list[str]:
        revision = self.state.of(name).preparing
        assert revision is not None, f"{name} is not being prepared"
        return self.tell(e.PrepareFailed(name, revision, message))

    def cancelled(self, name: str) -> list[str]:
        known = self.state.of(name)
        assert known.preparing is not None, f"{name} is not being prepared"
        assert known.cancelling, f"the preparation of {name} was not asked to end"
        return self.tell(e.PrepareAbandoned(name, known.preparing))

    def spawned(self, replica: str, *, pid: int = 4242, startup: bool = False) -> list[str]:
        service = self.state.definition(self.state.replicas[replica].service)
        assert service is not None
        slot = self.state.replicas[replica].slot or 0
        port = 20000 + slot * 10 + int(replica.rpartition("#")[2])
        addresses = tuple((p.name, f"127.0.0.1:{port}") for p in service.endpoints)
        return self.tell(e.ReplicaSpawned(replica, pid, addresses, 1.0, has_startup_probe=startup))

    def ready(self, *replicas: str) -> list[str]:
        return self.tell(*(e.ReadinessChanged(replica, True) for replica in replicas))

    def unready(self, replica: str, reason: str = "no answer") -> list[str]:
        return self.tell(e.ReadinessChanged(replica, False, reason))

    def exited(
        self, replica: str, code: int | None = 0, *, signal: int | None = None, jitter: float = 0.0
    ) -> list[str]:
        return self.tell(e.ReplicaExited(replica, e.Exit(code, signal), jitter=jitter))

    def routed(self) -> list[str]:
        """The table that is being set is in force."""
        assert self.state.gateway.setting is not None, "no table is being set"
        return self.tell(e.RoutesApplied(self.state.gateway.setting))

    def loaded(self) -> list[str]:
        assert self.state.gateway.loading is not None, "nothing is being loaded"
        return self.tell(e.GatewayLoaded(self.state.gateway.loading))

    # ── shortcuts ─────────────────────────────────────────────────────────────────────────────

    def start(self, replica: str) -> list[str]:
        """A replica that was asked for comes up and is ready."""
        return self.spawned(replica) + self.ready(replica)

    def holds(self, name: str) -> list[str]:
        return [hold.reason for hold in self.plan.holds if hold.service == name]

    def running(self, name: str) -> list[str]:
        return sorted(r.id for r in self.state.replicas_of(name))

    def replica(self, name: str) -> Replica:
        return self.state.replicas[name]


def words(op: Op) -> str:
    """An op as tests write it."""
    match op:
        case Prepare(service):
            return f"prepare {service}"
        case CancelPrepare(service, _, cause):
            return f"cancel {service}: {cause}"
        case StartReplica(replica):
            return f"start {replica}"
        case DrainReplica(replica):
            return f"drain {replica}"
        case StopReplica(replica, cause, is_failure):
            return f"{'fail' if is_failure else 'stop'} {replica}: {cause}"
        case SetRoutes(table):
            ready = [f"{k}={','.join(t.replica for t in v)}" for k, v in table.ready.items()]
            return " ".join(["routes", *sorted(ready)])
        case LoadGateway(shape):
            return " ".join(["load", *(f"{name}*{count}" for name, count in shape.slots)])
        case ApplyWorkload(service, _, count):
            return f"apply {service}*{count}"
        case RemoveWorkload(service):
            return f"remove {service}"


# ── stacks ─────────────────────────────────────────────────────────────────────────────────────


def stack(*services: Service, gateway: Gateway | None = None) -> Stack:
    return Stack(
        "shop", "0123456789", "/shop/stack.yaml", "/shop", {s.name: s for s in services}, gateway
    )


def worker(name: str = "worker", /, **changes: object) -> Service:
    """A service without a port."""
    service = Service(name, Kind.SERVICE, FakeProgram(), RuntimeName.FAKE)
    return replace(service, **changes)  # type: ignore[arg-type]  # a test's own words


def web(name: str = "web", /, **changes: object) -> Service:
    """A service that is reached through NGINX."""
    return worker(name, **({"endpoints": (Endpoint("main", 8080),)} | changes))


def database(name: str = "db", /, **changes: object) -> Service:
    engine = {
        "kind": Kind.DATABASE,
        "program": EngineProgram("postgres"),
        "endpoints": (Endpoint("main", 5432),),
        "update": Update.RECREATE,
    }
    return worker(name, **(engine | changes))


def job(name: str = "migrate", /, **changes: object) -> Service:
    return worker(name, **({"kind": Kind.JOB} | changes))


def nginx() -> Service:
    return worker(
        GATEWAY, kind=Kind.GATEWAY, program=EngineProgram("nginx"), update=Update.RECREATE
    )


def cloud(name: str = "cloud", /, **changes: object) -> Service:
    """A service that a cluster runs."""
    return worker(name, **({"runtime": RuntimeName.FAKE_WORKLOAD} | changes))


def needs(*names: str, how: Condition = Condition.READY) -> tuple[Dependency, ...]:
    return tuple(Dependency(name, how) for name in names)
