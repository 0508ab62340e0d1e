"""mseloss.jax on several devices and processes: the bits of one, and the gradients of JAX."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import free_port

jax = pytest.importorskip("jax")
import mseloss.jax as face  # noqa: E402


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def with_devices(count, program, *arguments):
    """What the program prints with `count` CPU devices."""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def test_four_devices_have_the_bits_of_one():
    assert with_devices(4, "jax_devices.py") == ["devices", "4", "cases", str(4 * 2 * 4)]


def test_shard_map_outside_jit_and_explicit_meshes():
    assert with_devices(2, "jax_eager.py") == ["devices", "2", "checks", "19"]


def test_several_processes_have_the_bits_of_one():
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    program = str(Path(__file__).with_name("jax_processes.py"))
    running = [
        subprocess.Popen(
            ["timeout", "200", sys.executable, program, address, "2", str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in running:
        output, errors = process.communicate()
        assert process.returncode == 0, output + errors
        assert output.endswith("processes 2 devices 4 checks 8\n")


@pytest.mark.parametrize("devices", [(2,), (16, 64)], ids=str)
def test_devices_exchange_digits_once_unless_undecided(devices):
    axes = ("a", "b")[: len(devices)]
    split = jax.sharding.PartitionSpec(axes)
    loss = jax.shard_map(
        lambda x, y: face.mse_loss(x, y, axis_name=axes),
        mesh=jax.sharding.AbstractMesh(devices, axes),
        in_specs=(split, split),
        out_specs=jax.sharding.PartitionSpec(),
    )
    x = jax.ShapeDtypeStruct((1024, 3), np.float32)
    text = str(jax.make_jaxpr(loss)(x, x))
    assert len(re.findall(r":i32\[117\].* = psum", text)) == 2  # one of them in an undecided case
    unconditional, conditional = text.split(" cond[")
    assert "psum" in unconditional
    assert "psum" in conditional
    assert "all_gather" not in text


@pytest.mark.parametrize(
    ("group", "checks"),
    [
        ("with_vma", 48),
        ("without_vma", 48),
        ("other_maps", 24),
        ("sharded_and_unsharded", 108),
        ("explicit_axes", 32),
    ],
)
def test_meshes_have_the_gradients_of_jax(group, checks):
    assert with_devices(4, "jax_sharding.py", group) == ["devices", "4", "checks", str(checks)]
