"""One import name: the contents of `import mathquarry`, and the files that a wheel installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import mathquarry
from tests.conftest import REPOSITORY
from tests.e2e.command_line import SMALL

UV = Path(sys.executable).with_name("uv")


def test_importing_the_package_loads_no_library() -> None:
    heavy = "{'torch', 'transformers', 'prefect', 'duckdb', 'pyarrow', 'datasets', 'pydantic'}"
    subprocess.run([sys.executable, "-c", f"import sys, mathquarry; assert not {heavy} & set(sys.modules)"], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("name", mathquarry.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(mathquarry, name).__doc__
    assert name in dir(mathquarry)
    assert re.search(rf"`{name}\b", mathquarry.__doc__ or "")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'gpro'"):
        mathquarry.gpro  # noqa: B018


def test_the_page_about_python_runs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")
    first, second = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", first], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "'train': 200" in done.stdout
    made = "store = mathquarry.Store('store')\nstore.build(Identity('sft', 1, {}, {}, ()), lambda _: {})\nmathquarry.Ledger(store).sync()"
    program = f"import mathquarry\nfrom mathquarry.data.store.store import Identity\n{made}\n{second}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sft ")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, REPOSITORY], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_installs_one_package_with_every_module_and_recipe(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"mathquarry"}
    tracked = subprocess.run(
        ["git", "ls-files", "data", "models", "tasks", "flows"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert {f"mathquarry/{name}" for name in tracked.stdout.split()} <= names


@pytest.mark.slow
def test_an_installed_wheel_runs_in_a_folder_with_packages_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # The dependencies are those of this environment: its folder is read after the wheel's own.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    project = tmp_path / "project"
    for package in ("data", "models", "tasks", "flows", "mathquarry"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text(f"raise RuntimeError('{package} of somebody else was imported')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = subprocess.run(
        [python, "-P", "-c", "import mathquarry.data.store.store as store; print(store.__file__)"],
        cwd=project, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
    settings = [part for field in [*SMALL, "iterations=1"] for part in ("--set", field)]
    run = [tmp_path / "venv" / "bin" / "mathquarry", "run", "tiny", "--store", tmp_path / "store", *settings]
    done = subprocess.run(run, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report:" in done.stdout
