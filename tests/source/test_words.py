"""What is published says nothing of the machine it was made on and leaves nothing to be done."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c", ".md", ".toml", ".conf", ".json", ".yml", ".yaml", ".service", ""}

MARKS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PLACES = re.compile(r"/(?:home/[a-z]\w*|work|Users|root)/\w")
TALK = re.compile(r"\b(?:language mo" r"del|this conver" r"sation|session i" r"d)\b", re.IGNORECASE)


def published(git: str) -> list[Path]:
    """The text files of the repository, as git has them."""
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(paths) > 400, "published files are not where they are looked for"
    return [path for path in paths if path.suffix in KINDS and path.is_file() and not path.is_symlink()]


def found(git: str, pattern: re.Pattern[str], keep: tuple[str, ...] = ()) -> list[str]:
    places = []
    for path in published(git):
        name = str(path.relative_to(ROOT))
        if name.startswith(keep):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                places.append(f"{name}:{number}: {match[0]}")
    return places


@pytest.mark.parametrize("pattern", [MARKS, PLACES, TALK], ids=["marks", "places", "talk"])
def test_words(pattern: re.Pattern[str], need: Callable[[str], str]) -> None:
    assert found(need("git"), pattern, keep=("tests/golden/",)) == []
