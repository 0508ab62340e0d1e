"""Run by test_jax.py in every process of jax.distributed: a loss on a 2-D mesh has the bits of one device.

Arguments: the coordinator's address, the number of processes, the index of this process.
"""

import functools
import sys

import jax
import mseloss.jax as face
import numpy as np
from conftest import normal, same_bits
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from mseloss import reference

address, processes, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_enable_x64", True)
jax.distributed.initialize(address, processes, index)
assert jax.process_count() == processes

mesh = jax.make_mesh((processes, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
checks = 0


def distribute(array):
    return jax.make_array_from_callback(
        array.shape, NamedSharding(mesh, P("a", "b")), array.__getitem__
    )


def local(array):
    """The parts of a distributed array in this process, and where they belong."""
    return [(shard.index, np.asarray(shard.data)) for shard in array.addressable_shards]


for dtype in (np.float32, np.float64):
    tie = np.zeros((4, 8), dtype)  # only an exact sum rounds this sum
    tie[0, 0], tie[3, 7] = 1, 2.0 ** (-12 if dtype == np.float32 else -27)
    for x in (normal(1, (4, 8), dtype), tie):
        y = np.zeros_like(x)
        for reduction in ("mean", "sum"):
            loss = jax.shard_map(
                functools.partial(face.mse_loss, reduction=reduction, axis_name=("a", "b")),
                mesh=mesh,
                in_specs=(P("a", "b"), P("a", "b")),
                out_specs=P(),
            )
            value, gradient = jax.jit(jax.value_and_grad(loss))(distribute(x), distribute(y))
            expected, whole = reference.loss_and_grad(x, y, reduction)
            assert same_bits(value.addressable_data(0), expected), (dtype, reduction)
            for where, part in local(gradient):
                assert same_bits(part, whole[where])
            checks += 1

print("processes", jax.process_count(), "devices", jax.device_count(), "checks", checks)
