"""What is a fresh Debian 12: a tree as an installed system has it, and the ways to enter it.

The tree has `python3`, `ca-certificates` and `git`, packages from where this machine has its own
from, this machine's certificates and resolver. Two ways in: bubblewrap, where the kernel allows user
namespaces as on an installed system, and a plain chroot, where it refuses them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).parents[2]
SUITE = "bookworm"
TREE_SECONDS = 900
INCLUDED = "python3,ca-certificates,git"

NEWCOMER = 1000
"""The uid that an installer gives to the first person."""

HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\tfresh
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_SETTINGS = (
    "PIP_", "UV_", "NPM_CONFIG_", "npm_config_", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GOSUMDB",
    "SSL_CERT_", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
"""Variables by which a machine says how packages are reached."""

Entrance = Literal["bubblewrap", "chroot"]
User = Literal["root", "newcomer"]


class TreeRefused(Exception):
    """A fresh system cannot be made or entered here; the reason is a sentence."""


def make_tree(folder: Path) -> Path:
    """A fresh Debian 12 in a new folder, as it is after its installation."""
    _require()
    tree = folder / "debian"
    archive = folder / "debian.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}"]
    done = subprocess.run(
        [*command, *_apt_options(), SUITE, str(archive), "-"],
        input=_sources(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TREE_SECONDS,
    )
    if done.returncode != 0:
        raise TreeRefused(f"mmdebstrap ended with {done.returncode}: {done.stderr[-2000:]}")
    tree.mkdir(mode=0o755)
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    archive.unlink()
    (tree / "etc/hosts").write_text(HOSTS)
    (tree / "etc/hostname").write_text("fresh\n")
    for name in ("etc/resolv.conf", _BUNDLE):
        if Path("/", name).exists():
            (tree / name).unlink(missing_ok=True)
            shutil.copyfile(Path("/", name), tree / name)
    with (tree / "etc/passwd").open("a") as stream:
        stream.write(f"newcomer:x:{NEWCOMER}:{NEWCOMER}::/home/newcomer:/bin/sh\n")
    with (tree / "etc/group").open("a") as stream:
        stream.write(f"newcomer:x:{NEWCOMER}:\n")
    return tree


def _require() -> None:
    if os.geteuid() != 0:
        raise TreeRefused("only root can make a fresh system and enter it as several users")
    for program in ("mmdebstrap", "bwrap", "unshare", "setpriv", "apt-get", "git"):
        if shutil.which(program) is None:
            raise TreeRefused(f"no {program} on PATH")


def _sources() -> str:
    """Where this machine has Debian's packages from, for the suite alone."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    wanted = ("Created-By: Packages", "Origin: Debian", f"Codename: {SUITE}")
    asked = ["apt-get", "indextargets", "--format", line, *wanted[:2]]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    kept = [entry for entry in dict.fromkeys(told) if entry.split()[2].split("-")[0] == SUITE]
    if not kept:
        raise TreeRefused(f"this machine's apt has no packages of Debian {SUITE}")
    return "\n".join(kept) + "\n"


def _apt_options() -> list[str]:
    """The machine's proxies; mmdebstrap reads no configuration of apt's."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    proxies = [
        line
        for line in dump.stdout.splitlines()
        if line.startswith("Acquire::http") and "Proxy" in line and not line.endswith('"";')
    ]
    return [f"--aptopt={line}" for line in proxies]


@dataclass(frozen=True, slots=True)
class FreshSystem:
    """Somebody on a fresh system: a tree, how it is entered, and as whom."""

    tree: Path
    entrance: Entrance
    user: User
    home: str

    @classmethod
    def begin(cls, tree: Path, entrance: Entrance, user: User) -> "FreshSystem":
        """A login with an empty home and a fresh clone of this repository in it."""
        home = "/root" if user == "root" else f"/home/{user}"
        system = cls(tree, entrance, user, home)
        inside = tree / home[1:]
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(mode=0o700)
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY)]
        subprocess.run([*clone, str(inside / "devstack")], check=True)
        for name in (".config/pip/pip.conf", ".pip/pip.conf", ".config/uv/uv.toml", ".npmrc"):
            if (found := Path.home() / name).is_file():
                (inside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, inside / name)
        system.own(inside)
        return system

    @property
    def uid(self) -> int:
        return 0 if self.user == "root" else NEWCOMER

    @property
    def cache(self) -> Path:
        """devstack's cache of this user, as it is seen from outside."""
        return self.tree / self.home[1:] / ".cache" / "devstack"

    def own(self, folder: Path) -> None:
        """Give a folder to the user of this system."""
        subprocess.run(["chown", "--recursive", f"{self.uid}:{self.uid}", str(folder)], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a login has, and this machine's way to packages."""
        settings = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(_SETTINGS)
            and not (value.startswith("/") and not (self.tree / value[1:]).exists())
        }
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"HOME": self.home, "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        return settings | own | {"USER": self.user, "LOGNAME": self.user}

    def argv(self, *words: str) -> list[str]:
        """How a command is run in the clone, from outside."""
        become = [] if self.user == "root" else _become(NEWCOMER)
        here = ["sh", "-c", 'cd "$HOME/devstack" && exec "$@"', "sh", *words]
        if self.entrance == "bubblewrap":
            made = ["--proc", "/proc", "--dev", "/dev", "--hostname", "fresh", "--unshare-uts"]
            enter = ["bwrap", "--bind", str(self.tree), "/", *made, "--cap-add", "ALL"]
            return [*enter, *become, *here]
        # The mounts end with the mount namespace; the root stays a folder among others, so that
        # the kernel takes it for what it is: a chroot.
        mounts = (
            'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
        )
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts]
        return [*enter, str(self.tree), *become, *here]

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone to its end."""
        return subprocess.run(
            self.argv(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def processes(self) -> dict[int, str]:
        """Everything that runs in the tree, whoever started it: pid and command line."""
        root = self.tree.stat()
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry.name)
                seen = (entry / "root").stat()
                if (seen.st_dev, seen.st_ino) == (root.st_dev, root.st_ino):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[pid] = words.decode(errors="replace").strip()
        return found

    def uids_of(self, program: str) -> set[int]:
        """As whom a program runs, as this machine sees it."""
        seen = [pid for pid, command in self.processes().items() if program in command]
        return {Path(f"/proc/{pid}").stat().st_uid for pid in seen}

    def wait_empty(self, seconds: float) -> dict[int, str]:
        """What still runs in the tree when the time is up; nothing, as it should be."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def end(self) -> None:
        """Leave nothing behind a test that failed."""
        for _ in range(20):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not self.wait_empty(0.5):
                break
        shutil.rmtree(self.tree / self.home[1:], ignore_errors=True)
        for made in (*self.tree.glob("tmp/devstack-*"), *self.tree.glob("var/tmp/devstack-*")):
            shutil.rmtree(made, ignore_errors=True)


def _become(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
