"""Trains a small masked autoencoder: the usual PyTorch code for its loss, and one call of mseloss.torch.

The data are patches of the digital elevation model of the Jacksboro fault (US Geological Survey), which
Matplotlib ships. The model sees a quarter of the patches of a tile and predicts the others; the loss is the
mean over the hidden patches. Some elevations are then marked as missing with NaN: a mask leaves them out,
while the usual product with the mask gives NaN. From the repository, with PyTorch and Matplotlib installed:

    python examples/masked_patches.py
"""

import statistics
import time

import mseloss.torch
import torch
from matplotlib import cbook

PATCH, SIDE = 8, 6  # patches of 8 x 8 elevations, 6 x 6 patches in a tile


def tiles():
    """(tile, patch, elevation), normalised."""
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
        elevation = torch.tensor(file["elevation"], dtype=torch.float32)
    elevation = (elevation - elevation.mean()) / elevation.std()
    size = PATCH * SIDE
    cut = elevation.unfold(0, size, size // 2).unfold(1, size, size // 2).reshape(-1, size, size)
    patches = cut.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return patches.reshape(len(cut), SIDE * SIDE, PATCH * PATCH)


def usual(predicted, target, hidden):
    loss = ((predicted - target) ** 2).mean(dim=-1)
    return (loss * hidden).sum() / hidden.sum()


def ours(predicted, target, hidden):
    return mseloss.torch.mse_loss(predicted, target, weight=hidden.unsqueeze(-1))


class Model(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = torch.nn.Linear(PATCH * PATCH, width)
        self.hidden = torch.nn.Parameter(torch.zeros(width))
        self.place = torch.nn.Parameter(0.02 * torch.randn(SIDE * SIDE, width))
        self.mix = torch.nn.TransformerEncoderLayer(width, 4, 128, dropout=0.0, batch_first=True)
        self.predict = torch.nn.Linear(width, PATCH * PATCH)

    def forward(self, patches, hidden):
        tokens = torch.where(hidden.unsqueeze(-1), self.hidden, self.embed(patches))
        return self.predict(self.mix(tokens + self.place))


def train(loss_function, data, iterations=60):
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    curve = []
    for _ in range(iterations):
        hidden = torch.rand(data.shape[:2]) < 0.75
        loss = loss_function(model(data, hidden), data, hidden)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


def step_time(loss_function, shape, repeats=9):
    """Median time in milliseconds of loss and gradient."""
    torch.manual_seed(0)
    predicted = torch.randn(shape, requires_grad=True)
    target, hidden = torch.randn(shape), torch.rand(shape[:2]) < 0.75
    times = []
    for _ in range(repeats):
        predicted.grad = None
        start = time.perf_counter()
        loss_function(predicted, target, hidden).backward()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    data = tiles()
    curves = {f.__name__: train(f, data) for f in (usual, ours)}
    for name, curve in curves.items():
        print(f"{name:6} loss {curve[0]:.4f} -> {curve[-1]:.4f}")
    difference = abs(curves["usual"][0] - curves["ours"][0]) / curves["usual"][0]
    print(f"relative difference of the first losses: {difference:.1e}")
    assert difference < 1e-6

    missing = torch.rand(data.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    target = data.masked_fill(missing, torch.nan)
    known = ~missing
    predicted = torch.zeros_like(data, requires_grad=True)
    product = (((predicted - target) ** 2) * known).sum() / known.sum()
    masked = mseloss.torch.mse_loss(predicted, target, weight=known)
    masked.backward()
    print(f"with missing elevations: product with the mask {product:.4f}, mseloss {masked:.4f}")
    assert product.isnan()
    assert predicted.grad.isfinite().all()
    torch.testing.assert_close(masked, (data[known] ** 2).mean())

    shape = (128, 196, 768)
    times = {f.__name__: step_time(f, shape) for f in (usual, ours)}
    print(
        f"loss and gradient of {shape}: " + ", ".join(f"{n} {t:.2f} ms" for n, t in times.items())
    )


if __name__ == "__main__":
    main()
