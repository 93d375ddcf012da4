"""The lowest loss a model can have on a finite training set, and draws of x_t that losses are averaged over."""

from ._draws import draws, mean, stratified
from ._optimal import OptimalLoss, grid, optimal_loss

__all__ = ["OptimalLoss", "draws", "grid", "mean", "optimal_loss", "stratified"]
