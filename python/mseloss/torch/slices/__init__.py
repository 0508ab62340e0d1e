"""The loss with a weight, or over some of the dimensions."""

from mseloss.torch.slices.step import slices_loss

__all__ = ["slices_loss"]
