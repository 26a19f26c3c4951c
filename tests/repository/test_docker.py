"""The recipes for Docker copy what the package is made of, and nothing else reaches them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_is_made_of_the_folders_of_the_package(name: str) -> None:
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {*project["tool"]["setuptools"]["package-dir"].values(), "pyproject.toml", "LICENSE", "packaging"}
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()}
    let_in = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))

    assert copied == let_in == needed
    assert (ROOT / project["project"]["readme"]).parent.name == "packaging"
    base = re.search(r"^FROM python:(\d+)\.(\d+)-slim$", text, re.MULTILINE)
    assert base
    assert (int(base[1]), int(base[2])) >= (3, 11)
