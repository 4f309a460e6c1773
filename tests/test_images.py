"""The images' contents are pinned: every package by its hashes, and the bases where one place can name their digests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[1] / "docker"
LOCKS = sorted(path for path in (DOCKER / "requirements").glob("*.txt") if path.name != "torch.txt")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_package_has_a_version_and_hashes(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().rstrip())
    assert packages
    for package in packages:
        first, *hashes = package.split(" \\\n")
        assert re.match(r"[a-z0-9-]+==\S+", first), first
        assert hashes, first
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


@pytest.mark.parametrize("file", sorted(DOCKER.glob("*Dockerfile")), ids=lambda path: path.name)
def test_packages_are_installed_by_hash(file: Path) -> None:
    installed = re.findall(r"pip (?:install|wheel) (?:[^\n]*\\\n)*[^\n]*", file.read_text())
    listed = [part for command in installed for part in re.split(r"&&|;", command) if " -r " in part]
    unpinned = [part for part in listed if "--require-hashes" not in part]
    assert [part for part in unpinned if "torch.txt" not in part] == []
    # What is installed without a list was built here.
    own = [part for command in installed for part in re.split(r"&&|;", command) if "pip install" in part and " -r " not in part]
    assert all("/src" in part or "/tmp/wheels/" in part for part in own), own


def test_every_external_image_is_named_in_one_place() -> None:
    named = set(re.findall(r": \"\$\{(\w+):=", (DOCKER / "bases").read_text()))
    used = {name for file in DOCKER.glob("*Dockerfile") for name in re.findall(r"^FROM \$\{(\w+_IMAGE)\}", file.read_text(), re.MULTILINE)}
    assert named == {*used, "POSTGRES_IMAGE"}
    begun = {base for file in DOCKER.glob("*Dockerfile") for base in re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE)}
    assert begun == {*(f"${{{name}}}" for name in used), "system", "packages-base", "packages-${FLAVOUR}"}


def test_every_service_drops_what_it_does_not_need() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert services["postgres"]["read_only"]
    assert services["postgres"]["user"] == "postgres"
