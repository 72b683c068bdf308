"""The trust metric (paper: A.20, eq. 17-18): how far generated pictures are from real ones, on our own embedding.

KID is the main number: it is unbiased for small sets, FID is not. KL and FID are of Gaussians, fitted in the real
pictures' leading principal directions, because a covariance of d x d cannot be fitted on fewer pictures than d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REFUSE_ABOVE = 3.0  # times the distance that two halves of the real pictures have from each other


@dataclass(frozen=True)
class Distance:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Trust:
    """`refused`: the pictures are too far from real ones to stand for them, and must not support a decision."""

    kid: Distance
    fid: Distance
    kl: Distance
    real_kid: float  # 97.5 % quantile of KID between random halves of the real pictures
    real: int
    generated: int

    @property
    def refused(self) -> bool:
        """Surely above the limit: the interval's lower end is more than three times what real pictures differ by."""
        return self.kid.low > REFUSE_ABOVE * max(self.real_kid, 1e-6)


def trust(real: NDArray[np.floating], made: NDArray[np.floating], *, rounds: int = 200, seed: int = 0) -> Trust:
    """`real` [n, d] and `made` [m, d] embeddings, at least 20 each. Raises ValueError for fewer."""
    x, y = np.asarray(real, np.float64), np.asarray(made, np.float64)
    if min(len(x), len(y)) < 20:
        raise ValueError(f"{len(x)} real and {len(y)} generated pictures: distances need at least 20 of each")
    rng = np.random.default_rng(seed)
    mean = x.mean(0)
    axes = np.linalg.svd(x - mean, full_matrices=False)[2][: max(2, min(32, min(len(x), len(y)) // 10))]
    px, py = (x - mean) @ axes.T, (y - mean) @ axes.T
    halves = []
    for _ in range(rounds):
        order = rng.permutation(len(x))
        halves.append(kid(x[order[: len(x) // 2]], x[order[len(x) // 2 :]]))

    def bootstrapped(measure: Callable[[Floats, Floats], float], a: Floats, b: Floats) -> Distance:
        draws = [measure(a[rng.integers(0, len(a), len(a))], b[rng.integers(0, len(b), len(b))]) for _ in range(rounds)]
        # A sample drawn with replacement holds twins, which moves every draw alike: the interval is shifted back.
        shift = measure(a, b) - float(np.mean(draws))
        low, high = np.quantile(draws, [0.025, 0.975]) + shift
        return Distance(measure(a, b), float(low), float(high))

    return Trust(
        kid=bootstrapped(kid, x, y),
        fid=bootstrapped(frechet, px, py),
        kl=bootstrapped(kl, px, py),
        real_kid=float(np.quantile(halves, 0.975)),
        real=len(x),
        generated=len(y),
    )


def kid(x: Floats, y: Floats) -> float:
    """Unbiased squared MMD with the cubic kernel (x.y / d + 1)^3 (KID, arXiv 1801.01401)."""
    n, m, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _gaussian(x: Floats) -> tuple[Floats, Floats]:
    covariance = np.cov(x.T) + 1e-6 * np.eye(x.shape[1]) * max(float(x.var()), 1e-12)
    return x.mean(0), covariance


def frechet(x: Floats, y: Floats) -> float:
    """FID (paper: eq. 18): ||mu_x - mu_y||^2 + tr(S_x + S_y - 2 (S_x S_y)^1/2)."""
    (mx, sx), (my, sy) = _gaussian(x), _gaussian(y)
    # The eigenvalues of S_x S_y are real and not negative: it is similar to S_x^1/2 S_y S_x^1/2.
    cross = np.sqrt(np.clip(np.linalg.eigvals(sx @ sy).real, 0, None)).sum()
    return float(((mx - my) ** 2).sum() + np.trace(sx) + np.trace(sy) - 2 * cross)


def kl(x: Floats, y: Floats) -> float:
    """KL(real || generated) of the two Gaussians (paper: eq. 17)."""
    (mx, sx), (my, sy) = _gaussian(x), _gaussian(y)
    inverse, difference = np.linalg.inv(sy), my - mx
    logs = np.linalg.slogdet(sy)[1] - np.linalg.slogdet(sx)[1]
    return float(0.5 * (np.trace(inverse @ sx) + difference @ inverse @ difference - len(mx) + logs))
