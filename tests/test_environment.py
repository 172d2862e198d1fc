"""The ways to install recdrop agree: pyproject.toml, constraints.txt, environment.yml, Makefile."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
ENVIRONMENT = (ROOT / "environment.yml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def pins() -> dict[str, str]:
    """Exact version by normalised name; a line that is no pin fails here."""
    found = {}
    for line in CONSTRAINTS.splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            assert canonicalize_name(name) not in found, f"{name} is pinned twice"
            found[canonicalize_name(name)] = version
    return found


@pytest.mark.parametrize("line", DIRECT)
def test_direct_dependency_is_pinned(line: str):
    requirement = Requirement(line)
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"constraints.txt does not pin {requirement.name}"
    assert requirement.specifier.contains(pinned), f"{pinned} does not satisfy {line}"


@pytest.mark.parametrize("text", [ENVIRONMENT, MAKEFILE], ids=["environment.yml", "Makefile"])
def test_same_extras_and_constraints(text: str):
    (extras,) = re.findall(r"-e '?\.\[([\w,]+)\]", text)
    assert set(extras.split(",")) == set(EXTRAS)
    assert "-c constraints.txt" in text


def test_same_python():
    floor = PROJECT["requires-python"].removeprefix(">=")
    (conda,) = re.findall(r"- python=([\d.]+)", ENVIRONMENT)
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda)
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in MAKEFILE
    assert f"needs Python {floor} " in MAKEFILE
    assert f"Resolved on Python {conda};" in CONSTRAINTS


def test_environment_has_the_project_name():
    assert f"\nname: {PROJECT['name']}\n" in ENVIRONMENT


@pytest.mark.parametrize("text", [CONSTRAINTS, ENVIRONMENT], ids=["constraints", "environment"])
def test_no_place_to_download_from_is_prescribed(text: str):
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|\+cpu|\+cu\d", text)


def test_the_command_line_starts_without_torch():
    """It takes seconds and hundreds of MB, in each worker of a sweep as well."""
    code = "import sys, recdrop.cli; assert 'torch' not in sys.modules; recdrop.LSTM(1, 1)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_is_read_and_shown_does_not_wait_for_torchs_compiler():
    """To import it takes as long as torch itself; a layer does so only when it is made."""
    code = "import sys, torch; before = 'torch._dynamo' in sys.modules; import recdrop.figures;"
    code += "recdrop.LSTM; assert ('torch._dynamo' in sys.modules) == before"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_is_there():
    import recdrop

    assert set(recdrop.__all__) <= set(dir(recdrop))
    assert all(getattr(recdrop, name) for name in recdrop.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LTSM'"):
        _ = recdrop.LTSM
