"""An approximate inverse information matrix, updated from the steps taken with it (L-BFGS, Nocedal 1980)."""

from __future__ import annotations

from collections.abc import Callable

from recurate.core.arrays import FloatArray


class LBFGS:
    """An approximate inverse information matrix, updated by the changes of gradients over steps.

    Args:
        solve: Map v -> information^-1 v of the first information matrix.
    """

    def __init__(self, solve: Callable[[FloatArray], FloatArray]) -> None:
        self._solve = solve
        self._pairs: list[tuple[FloatArray, FloatArray, float]] = []

    def add(self, step: FloatArray, change: FloatArray) -> None:
        """Update the approximation with a ``step`` (d,) that decreased the gradient by ``change`` (d,)."""
        curvature = float(step @ change)
        if curvature > 0:
            self._pairs.append((step, change, 1.0 / curvature))

    def __call__(self, gradient: FloatArray) -> FloatArray:
        """Return the approximate inverse information times a gradient, (d,)."""
        q, weights = gradient.copy(), []
        for step, change, rho in reversed(self._pairs):
            weights.append(rho * float(step @ q))
            q -= weights[-1] * change
        r = self._solve(q)
        for (step, change, rho), weight in zip(self._pairs, reversed(weights), strict=True):
            r = r + step * (weight - rho * float(change @ r))
        return r
