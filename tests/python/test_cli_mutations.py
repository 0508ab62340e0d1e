"""Mutated files through every reader and writer: each gives a correct array or one error of one line.

MSELOSS_MUTATIONS sets the number of files to read (default 3,000), MSELOSS_SEED the seed (default: random).
"""

import io
import os
import secrets
import zipfile
from collections import Counter

import ml_dtypes
import numpy as np
import pytest
from array_files import npy
from file_mutations import Mutations
from mseloss.cli import files

official = pytest.importorskip("safetensors")

COUNT = int(os.environ.get("MSELOSS_MUTATIONS", 3000))
SEED = int(os.environ.get("MSELOSS_SEED", secrets.randbits(32)))


def read(spec):
    """The array, or None after an error. The error must be one line that begins with the file's name."""
    try:
        return files.read(spec)
    except files.FileError as error:
        text = str(error)
        assert text.startswith(spec.split(":")[0] + ": ")
        assert "\n" not in text
        assert len(text) < 500
        return None


def read_by_others(path, name):
    """(dtype's name, shape, little-endian bytes in C order) of what NumPy, zipfile or safetensors read."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".safetensors"):
        tensors = dict(official.deserialize(data))
        entry = tensors[name] if name is not None else next(iter(tensors.values()))
        known = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
        return known[entry["dtype"]], tuple(entry["shape"]), bytes(entry["data"])
    if path.endswith(".npz"):
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if name is None:
                (member,) = (m for m in members if m.endswith(".npy") or len(members) == 1)
            else:
                member = name if name in members else f"{name}.npy"
            data = archive.read(member)
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16)
    return array.dtype.name, array.shape, _bytes(array)


def _bytes(array):
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@pytest.mark.filterwarnings(
    "ignore:Reading `.npy` or `.npz` file required additional header parsing"
)
def test_readers_of_mutated_files(command):
    mutations, outcomes = Mutations(SEED), Counter()
    for i in range(COUNT):
        suffix, name, data, done = mutations.next()
        path = f"m{suffix}"
        with open(path, "wb") as file:
            file.write(data)
        what = f"MSELOSS_SEED={SEED}, file {i}: {done}"
        try:
            spec = path if name is None else f"{path}:{name}"
            array = read(spec)
            if array is not None:
                expected = read_by_others(path, name)
                assert (array.dtype.name, array.shape, _bytes(array)) == expected
            if i % 50 == 0:  # through the command, which takes longer
                status, _, err = command("check", spec, spec)
                assert (status, err.count("\n")) == ((0, 0) if array is not None else (2, 1))
        except Exception as error:
            raise AssertionError(f"{what}: {data!r}") from error
        outcomes[suffix, "read" if array is not None else "refused"] += 1
        del array
        os.unlink(path)  # its map may still be open
    print(f"MSELOSS_SEED={SEED}: {dict(sorted(outcomes.items()))}")
    assert len(outcomes) == 6, "both outcomes for each format"


def contents(path):
    """{name: (properties, data)} of the arrays in an archive that zipfile or safetensors can read."""
    result = {}
    if path.endswith(".safetensors"):
        with open(path, "rb") as file:
            for name, entry in official.deserialize(file.read()):
                result[name] = (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        return result
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            try:
                data = archive.read(info)
            except Exception:
                continue
            result[info.filename] = (info.compress_type, info.compress_size, info.comment, data)
    return result


def test_results_into_mutated_archives(tmp_path, monkeypatch):
    """Adding an array keeps the other members, or raises an error and leaves the file unchanged."""
    monkeypatch.chdir(tmp_path)
    mutations, outcomes = Mutations(SEED), Counter()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for i in range(COUNT // 5):
        suffix, _, data, done = mutations.next()
        if suffix == ".npy" or not data:
            continue
        path = f"m{suffix}"
        with open(path, "wb") as file:
            file.write(data)
        what = f"MSELOSS_SEED={SEED}, file {i}: {done}: {data!r}"
        refused = None
        try:
            with files.write(f"{path}:new", array.shape, array.dtype, "default") as put:
                put(array)
        except files.FileError as error:
            refused = str(error)
        if refused is not None:
            assert refused.startswith(f"{path}: "), what
            with open(path, "rb") as file:
                assert file.read() == data, what
            outcomes[suffix, "refused"] += 1
        else:
            added = contents(path)
            with open(path, "wb") as file:
                file.write(data)
            key = "new" if suffix == ".safetensors" else "new.npy"
            new = added.pop(key)
            assert new[-1] == (array.tobytes() if suffix == ".safetensors" else npy(array)), what
            before = contents(path)
            before.pop(key, None)
            assert added == before, what
            outcomes[suffix, "added"] += 1
        assert os.listdir() == [path], what
        os.unlink(path)
    print(f"MSELOSS_SEED={SEED}: {dict(sorted(outcomes.items()))}")
    assert len(outcomes) == 4
