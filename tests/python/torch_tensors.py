"""Tensors for the tests of mseloss.torch. Import after pytest.importorskip("torch")."""

import ml_dtypes
import numpy as np
import torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
SUMS = ["mean", "sum"]


def to_torch(array):
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def leaves(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]
