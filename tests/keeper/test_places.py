"""Where sockets lie, and which folders are refused."""

import os
import socket
from pathlib import Path

import pytest

from devstack.api import locate
from devstack.keeper import places


def test_the_stack_id_is_the_same_through_a_symlink(tmp_path: Path) -> None:
    real = tmp_path / "shop"
    real.mkdir()
    (real / "stack.yaml").write_text("name: shop\n")
    (tmp_path / "link").symlink_to(real)

    one = places.stack_id_of(str(real / "stack.yaml"))
    other = places.stack_id_of(str(tmp_path / "link" / "stack.yaml"))

    assert one == other
    assert len(one) == 10


def test_folders_are_made_for_us_alone(runtime_folder: Path) -> None:
    made = locate.make("0123456789", {"XDG_RUNTIME_DIR": str(runtime_folder)})

    assert made.folder == f"{runtime_folder}/devstack/0123456789"
    assert os.stat(made.folder).st_mode & 0o777 == 0o700
    assert os.stat(os.path.dirname(made.folder)).st_mode & 0o777 == 0o700
    assert locate.check(made)
    assert locate.stacks({"XDG_RUNTIME_DIR": str(runtime_folder)}) == [made]


def test_looking_makes_nothing(runtime_folder: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(runtime_folder)}

    assert not locate.check(locate.places_of("0123456789", environment))
    assert locate.stacks(environment) == []
    assert list(runtime_folder.iterdir()) == []


def test_j11_a_long_runtime_folder_is_passed_over_so_that_sockets_bind(
    runtime_folder: Path,
) -> None:
    long = runtime_folder / ("d" * 90)
    long.mkdir(mode=0o700)
    temp = runtime_folder / "t"
    temp.mkdir()

    made = places.make("0123456789", {"XDG_RUNTIME_DIR": str(long), "TMPDIR": str(temp)})

    assert made.folder == f"{temp}/devstack-{os.geteuid()}/0123456789"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(made.control_socket)
    with socket.socket(socket.AF_UNIX) as bound, pytest.raises(OSError, match="too long"):
        bound.bind(str(long / "devstack" / "0123456789" / "control.sock"))


def test_j11_a_long_temp_folder_is_passed_over_too(runtime_folder: Path) -> None:
    long = runtime_folder / ("d" * 90)
    long.mkdir()

    assert places.user_folder({"TMPDIR": str(long)}) == f"/tmp/devstack-{os.geteuid()}"


def test_j11_a_stack_in_a_deep_folder_has_a_short_socket_path(
    tmp_path: Path, runtime_folder: Path
) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    (deep / "stack.yaml").write_text("name: shop\n")

    made = places.make(
        places.stack_id_of(str(deep / "stack.yaml")), {"XDG_RUNTIME_DIR": str(runtime_folder)}
    )

    assert len(os.fsencode(made.keeper_socket)) <= places.LONGEST_SOCKET_PATH


def test_k03_a_symlinked_folder_is_refused(runtime_folder: Path) -> None:
    elsewhere = runtime_folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (runtime_folder / "devstack").symlink_to(elsewhere)

    with pytest.raises(places.PlaceRefused, match="it is a symlink") as refused:
        places.make("0123456789", {"XDG_RUNTIME_DIR": str(runtime_folder)})

    assert "XDG_RUNTIME_DIR" in refused.value.hint
    assert list(elsewhere.iterdir()) == []


def test_k03_a_folder_open_to_others_is_refused(runtime_folder: Path) -> None:
    temp = runtime_folder / f"devstack-{os.geteuid()}"
    temp.mkdir()
    temp.chmod(0o755)

    with pytest.raises(places.PlaceRefused, match="its mode is 0755, not 0700"):
        places.make("0123456789", {"TMPDIR": str(runtime_folder)})
    with pytest.raises(places.PlaceRefused, match="0755"):
        places.check(places.places_of("0123456789", {"TMPDIR": str(runtime_folder)}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_k03_a_folder_that_somebody_else_made_is_refused(runtime_folder: Path) -> None:
    temp = runtime_folder / "devstack-0"
    temp.mkdir(mode=0o700)
    os.chown(temp, 65534, 65534)

    with pytest.raises(places.PlaceRefused, match="it belongs to uid 65534, not to 0"):
        places.make("0123456789", {"TMPDIR": str(runtime_folder)})


def test_k03_a_symlinked_run_folder_is_refused(runtime_folder: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(runtime_folder)}
    made = places.make("0123456789", environment)
    (runtime_folder / "devstack" / "9876543210").symlink_to(made.folder)

    with pytest.raises(places.PlaceRefused, match="symlink"):
        places.make("9876543210", environment)


def test_k03_a_file_in_the_way_is_refused(runtime_folder: Path) -> None:
    (runtime_folder / "devstack").write_text("")

    with pytest.raises(places.PlaceRefused, match="it is not a folder"):
        places.make("0123456789", {"XDG_RUNTIME_DIR": str(runtime_folder)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_runtime_folder_of_another_user_is_passed_over(runtime_folder: Path) -> None:
    theirs = runtime_folder / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)

    folder = places.user_folder({"XDG_RUNTIME_DIR": str(theirs), "TMPDIR": str(runtime_folder)})

    assert folder == f"{runtime_folder}/devstack-0"


def test_an_entry_is_read_as_it_was_written(runtime_folder: Path) -> None:
    made = places.make("0123456789", {"XDG_RUNTIME_DIR": str(runtime_folder)})
    assert places.read_entry(made) == {}

    places.write_entry(made, {"folder": "/shop", "ports": [8080]})

    assert places.read_entry(made) == {"folder": "/shop", "ports": [8080]}
    assert os.stat(made.entry).st_mode & 0o777 == 0o600
    places.remove_entry(made)
    places.remove_entry(made)
    assert places.read_entry(made) == {}
