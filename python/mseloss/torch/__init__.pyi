from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed import DeviceMesh, ProcessGroup

__all__ = ["MSELoss", "STEP_IS_COMPILED", "mse_loss", "use_torch_threads"]

STEP_IS_COMPILED: bool

def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    group: ProcessGroup | DeviceMesh | None = None,
    averaged: bool = False,
) -> Tensor: ...

class MSELoss(torch.nn.MSELoss):
    dim: int | Sequence[int] | None
    keepdim: bool
    group: ProcessGroup | DeviceMesh | None
    averaged: bool
    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        group: ProcessGroup | DeviceMesh | None = None,
        averaged: bool = False,
    ) -> None: ...
    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor: ...
    def __call__(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor: ...

def use_torch_threads(use: bool) -> None: ...
