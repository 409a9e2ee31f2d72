"""A process's own names, secrets and user: as root, as an ordinary user, and in a chroot."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROBE = "tests/support/view_probe.py"
HOSTS = "127.0.0.1 localhost\n127.64.0.9 redis db\n"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
IS_ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")


@pytest.fixture
def secret(runtime_folder: Path) -> Path:
    path = runtime_folder / "secret"
    path.write_text("swordfish")
    return path


def probe(
    runtime_folder: Path, secret: Path, prefix: list[str], root: Path = ROOT
) -> dict[str, Any]:
    ended = subprocess.run(
        [*prefix, "/usr/bin/python3", "-X", "utf8", f"{root}/{PROBE}", runtime_folder, secret],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def assert_names_can_change_and_the_host_is_untouched(told: dict[str, Any]) -> None:
    if told["hosts"]:
        assert set(told["renewed"].values()) == {"127.64.0.10 late\n"}
    assert told["left"] == []
    seen = told["seen"]["none"]
    assert seen["hosts"] == Path("/etc/hosts").read_text()
    assert seen["run"] == sorted(os.listdir("/run"))
    assert not Path("/run/secrets/db-password").exists()


def test_a_process_has_names_and_secrets_of_its_own(runtime_folder: Path, secret: Path) -> None:
    told = probe(runtime_folder, secret, [])
    if not told["hosts"] or not told["secrets"]:
        pytest.skip(f"this system refuses: {told['hosts_how']}")

    assert told["hosts_how"] == ("mount namespace" if IS_ROOT else "user+mount namespace")
    names, everything = told["seen"]["names"], told["seen"]["all"]
    assert (names["hosts"], names["secret"]) == (HOSTS, "FileNotFoundError")
    assert names["run"] == told["seen"]["none"]["run"]
    assert (everything["hosts"], everything["secret"]) == (HOSTS, "swordfish")
    assert everything["secret_written"] != "written"
    assert set(everything["run"]) == {*told["seen"]["none"]["run"], "secrets"}
    assert everything["uid"] == os.getuid()
    assert everything["cwd"] == str(runtime_folder)
    assert_names_can_change_and_the_host_is_untouched(told)


@needs_root
def test_as_root_a_server_that_refuses_root_gets_another_user(
    runtime_folder: Path, secret: Path
) -> None:
    """In a user namespace: its folder may lie below one that only root can enter."""
    secret.chmod(0o600)
    told = probe(runtime_folder, secret, [])
    seen = told["seen"]["unprivileged"]

    assert told["unprivileged"] in ("user namespace", "nobody")
    assert (seen["uid"], seen["gid"]) == (65534, 65534)
    assert (seen["hosts"], seen["secret"]) == (HOSTS, "swordfish")
    if told["unprivileged"] == "user namespace":
        assert seen["cwd"] == str(runtime_folder)


def can_be_read_by_everybody(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))


@needs_root
def test_an_ordinary_user_has_the_same_view_through_a_user_namespace(
    runtime_folder: Path, secret: Path
) -> None:
    if not can_be_read_by_everybody(ROOT):
        pytest.skip("the checkout lies below a folder that only root can enter")
    os.chown(runtime_folder, 65534, 65534)
    os.chown(secret, 65534, 65534)
    told = probe(runtime_folder, secret, AS_NOBODY)
    if not told["hosts"]:
        pytest.skip(f"this system refuses: {told['hosts_how']}")

    assert told["uid"] == 65534
    assert told["hosts_how"] == "user+mount namespace"
    assert told["unprivileged"] == "not root"
    everything = told["seen"]["all"]
    assert (everything["hosts"], everything["secret"]) == (HOSTS, "swordfish")
    assert everything["secret_written"] != "written"
    assert (everything["uid"], everything["gid"]) == (65534, 65534)
    assert set(everything["run"]) == {*told["seen"]["none"]["run"], "secrets"}
    assert told["seen"]["unprivileged"] == everything
    assert_names_can_change_and_the_host_is_untouched(told)


class Chroot:
    """A tree whose root is no mount, in a mount namespace whose mounts are shared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("usr", "proc", "dev", "etc", "tmp", "run", "repo"):
            (folder / name).mkdir()
        for name in ("bin", "lib", "lib64", "sbin"):
            (folder / name).symlink_to(f"usr/{name}")
        for name in ("passwd", "group", "ld.so.cache"):
            shutil.copy(f"/etc/{name}", folder / "etc" / name)
        (folder / "etc" / "hosts").write_text("127.0.0.1 localhost outside\n")
        (folder / "tmp").chmod(0o1777)

    def prefix(self, inside: list[str], after: str) -> list[str]:
        """The command line that runs something in it; `after` says what is looked at from outside."""
        tree = self.folder
        script = (
            f"mount --rbind /usr {tree}/usr; mount --rbind /proc {tree}/proc;"
            f"mount --rbind /dev {tree}/dev; mount --rbind {ROOT} {tree}/repo;"
            "mount --make-rshared /;"
            f'chroot {tree} {" ".join(inside)} "$@"; code=$?;'
            f"{after}; exit $code"
        )
        return ["unshare", "--mount", "sh", "-ec", script, "sh"]


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    if not Path("/bin").is_symlink():
        pytest.skip("this test lays out its tree as Debian does")
    tree = tmp_path / "tree"
    tree.mkdir()
    for folder in (tree, *tree.parents):
        if (
            folder.owner() == "root"
            and folder.stat().st_mode & 0o005 != 0o005
            and "pytest" in str(folder)
        ):
            folder.chmod(0o755)
    return Chroot(tree)


@needs_root
def test_in_a_chroot_root_has_names_by_mount_namespace_alone_and_none_leaks_out(
    chroot: Chroot,
) -> None:
    runtime = chroot.folder / "tmp" / "r"
    runtime.mkdir(mode=0o700)
    (chroot.folder / "tmp" / "secret").write_text("swordfish")
    outside = chroot.folder.parent / "outside"
    prefix = chroot.prefix([], f"cat {chroot.folder}/etc/hosts > {outside}")

    told = probe(Path("/tmp/r"), Path("/tmp/secret"), prefix, Path("/repo"))

    assert (told["hosts"], told["hosts_how"]) == (True, "mount namespace")
    assert told["unprivileged"] == "nobody"
    assert told["seen"]["all"]["hosts"] == HOSTS
    assert told["seen"]["all"]["secret"] == "swordfish"
    assert told["seen"]["unprivileged"]["uid"] == 65534
    assert told["seen"]["unprivileged"]["hosts"] == HOSTS
    assert told["seen"]["none"]["hosts"] == "127.0.0.1 localhost outside\n"
    assert outside.read_text() == "127.0.0.1 localhost outside\n"
    assert os.listdir(chroot.folder / "run") == []


@needs_root
def test_in_a_chroot_an_ordinary_user_has_no_names_and_is_told_why(chroot: Chroot) -> None:
    if not can_be_read_by_everybody(ROOT):
        pytest.skip("the checkout lies below a folder that only root can enter")
    runtime = chroot.folder / "tmp" / "r"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 65534, 65534)
    (chroot.folder / "tmp" / "secret").write_text("swordfish")

    prefix = chroot.prefix(AS_NOBODY, "true")
    told = probe(Path("/tmp/r"), Path("/tmp/secret"), prefix, Path("/repo"))

    assert not told["hosts"]
    assert not told["secrets"]
    assert "Operation not permitted" in told["hosts_how"]
    assert told["seen"]["all"]["hosts"] == "127.0.0.1 localhost outside\n"
    assert told["seen"]["all"]["secret"] == "FileNotFoundError"
