"""A user's program over PyTorch tensors, for mypy --strict and pyright; test_types.py also runs it."""

from typing import assert_type

import mseloss.torch
import torch

model = torch.nn.Linear(4, 2)
criterion = mseloss.torch.MSELoss(reduction="sum", dim=(0, 1))
x, y = torch.ones(8, 4), torch.zeros(8, 2)

loss = criterion(model(x), y)
assert_type(loss, torch.Tensor)
assert_type(mseloss.torch.mse_loss(x, x, weight=x, dim=0, keepdim=True), torch.Tensor)
assert_type(mseloss.torch.STEP_IS_COMPILED, bool)
with torch.no_grad():
    assert_type(mseloss.grad(1.0, x, x), torch.Tensor)
    assert_type(mseloss.loss(x, x), torch.Tensor)
    value, gradient = mseloss.loss_and_grad(x, x)
    assert_type(value, torch.Tensor)
    assert_type(gradient, torch.Tensor)
