"""`constraints.txt` holds every package that the project needs, with hashes; see `make lock`."""

import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADLESS = {"opencv-python": "opencv-python-headless"}  # docs/decisions/0001-dependencies.md


def locked_packages() -> dict[str, str]:
    """Read the packages, each with the text of its entry."""
    text = (ROOT / "constraints.txt").read_text()
    return {entry.split("==")[0]: entry for entry in re.split(r"\n(?=[a-z])", text.strip())}


def required_packages() -> set[str]:
    """Read the names of the packages that `setup.cfg` asks for."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split()
    names = {re.split(r"[<>=!~\[]", line)[0] for line in lines}
    return {HEADLESS.get(name, name) for name in names}


def test_every_requirement_is_locked() -> None:
    assert required_packages() <= locked_packages().keys()


def test_every_package_has_one_release_and_hashes() -> None:
    for name, entry in locked_packages().items():
        assert re.match(rf"{re.escape(name)}==[^ ;]+", entry), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name


def test_the_container_installs_what_is_locked() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes --no-deps -r constraints.txt" in recipe
    assert "opencv-python" not in locked_packages()
    assert "!constraints.txt" in (ROOT / ".dockerignore").read_text().splitlines()
