"""The loss of distributed tensors: each process sums its shards, and the mesh's groups add the digits."""

from __future__ import annotations

import math

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from mseloss.torch.group import loss_of_groups, names_and_factor


def dtensor_loss(input, target, weight, reduction, group, averaged, elementwise):
    """mse_loss of DTensors on one mesh, or of DTensors and tensors that are equal on all processes.

    The loss is replicated; for "none" it is placed like the operands, as elementwise(input, target, weight)
    computes it from the shards. Every gradient is placed like its operand. `group`: None, or processes
    outside of the mesh that hold other parts of the data, as in group_loss.
    """
    names, factor = ([], 1.0) if group is None else names_and_factor(reduction, group, averaged)
    tensors = [input, target] if weight is None else [input, target, weight]
    mesh = next(t.device_mesh for t in tensors if isinstance(t, DTensor))
    for name, tensor in zip(("input", "target", "weight"), tensors, strict=False):
        if isinstance(tensor, DTensor) and tensor.device_mesh != mesh:
            raise ValueError(f"{name}: expected the device mesh {mesh}, got {tensor.device_mesh}")
    whole = [Replicate()] * mesh.ndim
    tensors = [
        t if isinstance(t, DTensor) else DTensor.from_local(t, mesh, whole, run_check=False)
        for t in tensors
    ]
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    placements = [_common_placement(tensors, shape, i) for i in range(mesh.ndim)]
    x, y, w = ([*(_local(t, shape, placements) for t in tensors), None])[:3]
    if reduction == "none":
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        return DTensor.from_local(
            elementwise(x, y, w),
            mesh,
            placements,
            run_check=False,
            shape=shape,
            stride=tuple(strides),
        )
    sharded = [i for i, placement in enumerate(placements) if not placement.is_replicate()]
    names = [mesh.get_group(i).group_name for i in sharded] + names
    loss = loss_of_groups(x, y, w, reduction, names, factor)
    return DTensor.from_local(loss, mesh, whole, run_check=False)


def _own_dim(tensor, shape, dim):
    """The tensor's dimension that is dimension `dim` of the broadcast shape; None if it is broadcast."""
    own = dim - (len(shape) - tensor.dim())
    return own if own >= 0 and tensor.shape[own] == shape[dim] else None


def _common_placement(tensors, shape, mesh_dim):
    """The sharding of the first operand that has one, in the broadcast shape; else Replicate."""
    for tensor in tensors:
        placement = tensor.placements[mesh_dim]
        if not isinstance(placement, Shard):
            continue
        dim = placement.dim + len(shape) - tensor.dim()
        if _own_dim(tensor, shape, dim) is not None:
            return placement if dim == placement.dim else Shard(dim)
    return Replicate()


def _local(tensor, shape, placements):
    """The shard of an operand; the gradient of one that is broadcast along a sharded dimension is partial."""
    own, gradient = [], []
    for placement in placements:
        dim = None if placement.is_replicate() else _own_dim(tensor, shape, placement.dim)
        if dim is None:
            own.append(Replicate())
            gradient.append(Replicate() if placement.is_replicate() else Partial())
        else:
            own.append(placement if dim == placement.dim else Shard(dim))
            gradient.append(own[-1])
    return tensor.redistribute(placements=own).to_local(grad_placements=gradient)
