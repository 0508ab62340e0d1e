"""Trains a linear model on an NPU; the gradient of the loss is one launch of the kernel.

usage: python example.py build/libmse_loss_v2_grad_torch.so [DEVICE]
"""

import sys

import torch


class MseLoss(torch.autograd.Function):
    """The mean squared error of two tensors of one shape."""

    @staticmethod
    def forward(ctx, predict, label):
        ctx.save_for_backward(predict, label)
        return torch.nn.functional.mse_loss(predict, label)

    @staticmethod
    def backward(ctx, dout):
        predict, label = ctx.saved_tensors
        # dout is 0-dimensional; the kernel reads it once instead of broadcasting it.
        return torch.ops.mse_loss_v2_grad.grad(predict, label, dout, "mean"), None


def main():
    torch.ops.load_library(sys.argv[1])
    device = sys.argv[2] if len(sys.argv) > 2 else "npu"
    if device.startswith("npu"):
        import torch_npu  # noqa: F401

    torch.manual_seed(0)
    inputs = torch.randn(256, 8).to(device)
    weights = torch.arange(8.0).reshape(8, 1).to(device)
    labels = inputs @ weights
    model = torch.nn.Linear(8, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = MseLoss.apply(model(inputs), labels)
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3g}")
    # The gradient has the bits of three float32 operations.
    predict = model(inputs).detach()
    grad = torch.ops.mse_loss_v2_grad.grad(predict, labels, torch.ones((), device=device), "sum")
    assert torch.equal(grad, (predict - labels) * 2)
    assert loss.item() < 1e-6


if __name__ == "__main__":
    main()
