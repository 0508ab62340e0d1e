"""Environment variables: used, or ignored with a warning that says why."""

import os
import subprocess
import sys

import mseloss
import pytest

PROGRAM = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import mseloss
assert "numpy" not in sys.modules
caught = [(w.category.__name__, str(w.message)) for w in caught]
print(json.dumps({"caught": caught, "info": mseloss.info()}))
"""
NAMES = ("MSELOSS_TARGET", "MSELOSS_NUM_THREADS", "MSELOSS_MEMORY_LIMIT")


def start(**variables):
    """The warnings of the import, and info(), of a process with these environment variables."""
    import json

    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=100,
        env={**environment, **variables},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return result["caught"], result["info"]


@pytest.fixture(scope="module")
def defaults():
    caught, info = start()
    assert caught == info["environment"] == []
    return info


def test_values_that_can_be_used(defaults):
    target = defaults["supported_targets"][-1]
    caught, info = start(
        MSELOSS_TARGET=target, MSELOSS_NUM_THREADS="3", MSELOSS_MEMORY_LIMIT="12345"
    )
    assert caught == info["environment"] == []
    assert (info["target"], info["threads"], info["memory_limit"]) == (target, 3, 12345)
    assert start(**dict.fromkeys(NAMES, "")) == ([], defaults)
    assert start(MSELOSS_MEMORY_LIMIT="0")[1]["memory_limit"] == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MSELOSS_TARGET", "FOO", "a target that this processor can run ("),
        ("MSELOSS_TARGET", "avx2", "a target that this processor can run ("),
        ("MSELOSS_NUM_THREADS", "abc", "a number from 1 to 1024"),
        ("MSELOSS_NUM_THREADS", "-3", "a number from 1 to 1024"),
        ("MSELOSS_NUM_THREADS", "0", "a number from 1 to 1024"),
        ("MSELOSS_NUM_THREADS", "1e9", "a number from 1 to 1024"),
        ("MSELOSS_NUM_THREADS", "1000000000", "a number from 1 to 1024"),
        ("MSELOSS_MEMORY_LIMIT", "1GB", "a number of bytes"),
        ("MSELOSS_MEMORY_LIMIT", "-1", "a number of bytes"),
        ("MSELOSS_MEMORY_LIMIT", "99999999999999999999999", "a number of bytes"),
        ("MSELOSS_MEMORY_LIMIT", "\u00e9" * 40, "a number of bytes"),
    ],
)
def test_values_that_cannot_be_used_are_reported_and_ignored(name, value, expected, defaults):
    caught, info = start(**{name: value})
    (sentence,) = info.pop("environment")
    assert sentence.startswith(f"{name}: expected {expected}")
    assert f'got "{value[:16]}' in sentence
    assert caught == [["RuntimeWarning", f"{sentence}; ignored"]]
    assert info == {k: v for k, v in defaults.items() if k != "environment"}


def test_each_variable_is_reported():
    caught, info = start(**dict.fromkeys(NAMES, "x"))
    assert all(any(name in sentence for sentence in info["environment"]) for name in NAMES)
    assert [message for _, message in caught] == [f"{s}; ignored" for s in info["environment"]]


@pytest.mark.parametrize(
    ("name", "kind"), [(5, TypeError), (b"AVX2", TypeError), ("\ud800", ValueError)], ids=ascii
)
def test_targets_that_are_no_names(name, kind):
    with pytest.raises(kind, match=r"^name: expected the name of a target or None, got ") as caught:
        mseloss.set_target(name)
    assert str(caught.value).endswith(ascii(name))


def test_the_check_is_not_part_of_the_interface():
    assert not hasattr(mseloss, "check_environment")
