"""Which files make up a source, and when its hash changes."""

import os
import time
from pathlib import Path

import pytest

from devstack.packs.digest import DigestCache, digest_files, walk_source
from devstack.packs.ignore import IgnoreRules
from tests.packs_unit.bench import MakeTree


def names(source: Path) -> set[str]:
    return {str(file.relative_to(source)) for file in walk_source(source, code_suffixes=(".py",))}


def digest(source: Path, cache: DigestCache | None = None) -> str:
    return digest_files(source, walk_source(source, code_suffixes=(".py",)), cache)


def test_dependencies_caches_and_what_programs_write_are_no_source(make_tree: MakeTree) -> None:
    source = make_tree(
        {
            "app.py": "",
            "templates/page.html": "",
            ".env": "",
            ".git/HEAD": "",
            ".venv/pyvenv.cfg": "",
            "my env/pyvenv.cfg": "",
            "my env/lib/x.py": "",
            "node_modules/x/index.js": "",
            "__pycache__/app.pyc": "",
            ".devstack/logs/x": "",
            "shop.egg-info/PKG-INFO": "",
            "app.log": "",
            "data.sqlite3": "",
            "a.py~": "",
            ".app.py.swp": "",
        }
    )

    assert names(source) == {"app.py", "templates/page.html", ".env"}


def test_ignored_files_do_not_count_but_ignored_code_does(make_tree: MakeTree) -> None:
    source = make_tree(
        {
            ".gitignore": "uploads/\n*.dat\n!keep.dat\n/generated\n",
            "app.py": "",
            "uploads/a.png": "",
            "x.dat": "",
            "keep.dat": "",
            "generated/pb2.py": "",
            "generated/pb2.txt": "",
            "deep/.gitignore": "local.txt\n",
            "deep/local.txt": "",
            "deep/other.txt": "",
        }
    )

    assert names(source) == {
        ".gitignore", "app.py", "keep.dat", "generated/pb2.py", "deep/.gitignore", "deep/other.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "verdict"),
    [
        ("*.log", "a/b.log", False, True),
        ("/b.log", "a/b.log", False, None),
        ("a/b", "a/b", False, True),
        ("a/b", "x/a/b", False, None),
        ("**/b", "x/a/b", False, True),
        ("a/**", "a/x/y", False, True),
        ("a/**/z", "a/z", False, True),
        ("b/", "b", False, None),
        ("b/", "b", True, True),
        ("[ab]?.txt", "bx.txt", False, True),
        ("[!a].txt", "a.txt", False, None),
        (r"\#x", "#x", False, True),
        ("# x", "# x", False, None),
        ("*.py", "a.pyc", False, None),
    ],
)
def test_patterns_mean_what_they_mean_to_git(
    pattern: str, path: str, is_folder: bool, verdict: bool | None
) -> None:
    assert IgnoreRules.parse(pattern).verdict(path, is_folder=is_folder) is verdict


def test_names_contents_and_the_executable_bit_change_the_digest(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": "a = 1\n", "run.sh": ""})
    seen = [digest(source)]

    (source / "app.py").write_text("a = 2\n")
    seen.append(digest(source))
    (source / "app.py").rename(source / "main.py")
    seen.append(digest(source))
    (source / "run.sh").chmod(0o755)
    seen.append(digest(source))
    (source / "link").symlink_to("nowhere")
    seen.append(digest(source))

    assert len(set(seen)) == 5


def test_touching_a_file_changes_nothing(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": "a = 1\n"})
    before = digest(source)

    os.utime(source / "app.py", (1, 1))

    assert digest(source) == before


def test_a_quick_save_of_equal_length_is_seen_through_the_cache(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": "a = 1\n"})
    cache = DigestCache.empty()
    seen = set()
    for number in range(5):
        (source / "app.py").write_text(f"a = {number}\n")
        seen.add(digest(source, cache))

    assert len(seen) == 5


def test_the_cache_gives_the_same_digest_for_files_at_rest(make_tree: MakeTree) -> None:
    source = make_tree({f"m{number}.py": str(number) for number in range(20)})
    deadline = time.monotonic() + 10
    cache = DigestCache.empty()
    fresh = digest(source)
    while len(cache.known) < 20 and time.monotonic() < deadline:
        assert digest(source, cache) == fresh  # trusted once two seconds old

    assert len(cache.known) == 20
    assert digest(source, cache) == fresh


def test_links_to_folders_are_not_entered(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": ""})
    (source / "loop").symlink_to(source)

    assert names(source) == {"app.py", "loop"}
    assert digest(source)
