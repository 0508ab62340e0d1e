"""The source package and its metadata."""

import email
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    build = pytest.importorskip("scikit_build_core.build")
    folder = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        archive = folder / build.build_sdist(str(folder))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def test_sdist_metadata_has_what_an_index_shows(sdist):
    metadata = email.message_from_string((sdist / "PKG-INFO").read_text(encoding="utf-8"))
    classifiers = metadata.get_all("Classifier")
    for minor in (11, 12, 13, 14):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert "# mseloss for Python" in description
    targets = re.findall(r"\]\(([^)\s]*)\)", description)
    assert [target for target in targets if not target.startswith("https://")] == []


@pytest.mark.parametrize("preset", ["release", "asan"])
def test_sdist_presets_configure(sdist, preset, monkeypatch):
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    command = ["cmake", "--preset", preset, "-DMSELOSS_CUDA=OFF"]
    done = subprocess.run(command, cwd=sdist, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_packages_have_the_version_of_the_project(sdist):
    version = sdist.name.removeprefix("mseloss-")
    recipe = (ROOT / "packaging/conda/recipe.yaml").read_text(encoding="utf-8")
    assert f'version: "{version}"' in recipe
