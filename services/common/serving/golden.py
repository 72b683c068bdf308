"""The golden outputs of a pack: what its exporter got for one input, and how far a session may be from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from services.common.serving.modelpack import Pack, PackError
from services.common.serving.providers import ProviderUnavailable

Outputs = dict[str, NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], Outputs]


@dataclass(frozen=True)
class Contract:
    """What a service expects of its graph: one uint8 input [B, *row] and these float32 outputs.

    `queries`: outputs [B, N, ...] whose N queries are a set, the first of them a score [B, N]. The graph keeps the N
    best, and rounding may swap near ties; so the better half of the golden queries is looked for, wherever it stands.
    """

    input_name: str
    outputs: Sequence[str]
    queries: Sequence[str] = ()


class Golden:
    """One input and what the exporter got for it on the plain CPU provider.

    Of maps it may hold every k-th row and column only: a graph that computes something else shows there too, and a pack
    is not a sixth larger for it.
    """

    def __init__(self, pack: Pack, contract: Contract) -> None:
        self._where = f"{pack.folder}: files.golden"
        self._tolerance, self._queries = pack.manifest.tolerance, contract.queries
        try:
            arrays = safetensors.numpy.load(pack.read("golden"))
        except SafetensorError as error:
            raise PackError(f"{self._where}: is no safetensors file: {first_line(error)}") from error
        if arrays.keys() != {contract.input_name, *contract.outputs}:
            wanted = ", ".join([contract.input_name, *contract.outputs])
            raise PackError(f"{self._where}: must hold {wanted}; it holds {', '.join(sorted(arrays))}")
        self.rows = arrays.pop(contract.input_name)[:1]  # one row proves the graph; more would only cost start-up
        size = (pack.manifest.input.height, pack.manifest.input.width, 3)
        if self.rows.dtype != np.uint8 or self.rows.shape != (1, *size):
            raise PackError(f"{self._where}: {contract.input_name} must be uint8[1, {size[0]}, {size[1]}, 3]")
        self._expected: Mapping[str, NDArray[np.float32]] = {name: array[:1] for name, array in arrays.items()}

    def must_hold(self, run: Run) -> None:
        """Raises PackError unless the largest difference is within the pack's tolerance."""
        try:
            found = self._thinned(run(self.rows))
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise PackError(f"{self._where}: the graph cannot run its input: {first_line(error)}") from error
        if _shapes(found) != _shapes(self._expected):
            raise PackError(f"{self._where}: names and shapes are not those that the graph answers")
        for name, (expected, given) in self._pairs(found).items():
            worst = float(np.abs(given - expected).max())
            if not worst <= self._tolerance:
                raise PackError(
                    f"{self._where}: {name} differs by {worst:.3g} on the CPU, and {self._tolerance:g} is allowed. "
                    "The graph does not compute what was exported; export the pack again."
                )

    def must_be_near(self, run: Run, parity: float) -> None:
        """Raises ProviderUnavailable unless every output's relative error is within `parity`."""
        for name, off in self.errors(run).items():
            if not off <= parity:
                raise ProviderUnavailable(f"{name} is {off:.1%} off the golden output ({parity:.0%} is allowed)")

    def errors(self, run: Run) -> dict[str, float]:
        """Output -> relative error: norm of the difference over norm. Raises ProviderUnavailable."""
        try:
            found = self._thinned(run(self.rows))
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise ProviderUnavailable(f"the trial run failed: {first_line(error)}") from error
        if _shapes(found) != _shapes(self._expected):
            raise ProviderUnavailable("names and shapes are not those of the golden outputs")
        # A norm below 1 is a row of logits that say nothing: there, what counts is the absolute difference.
        return {
            name: float(np.linalg.norm(given - expected) / max(float(np.linalg.norm(expected)), 1.0))
            for name, (expected, given) in self._pairs(found).items()
        }

    def _thinned(self, found: Outputs) -> Outputs:
        """The cells of every output that the golden ones hold."""
        thin = {}
        for name, array in found.items():
            wanted = self._expected[name].shape[-1] if name in self._expected else array.shape[-1]
            every = -(-array.shape[-1] // wanted)
            thin[name] = array[..., ::every, ::every] if every > 1 and array.ndim > 2 else array
        return thin

    def _pairs(self, found: Outputs) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Output -> (expected, found), of the query outputs the better half of the expected and what is nearest."""
        pairs = {name: (expected, found[name]) for name, expected in self._expected.items()}
        if self._queries:
            wanted = _flat([pairs[name][0] for name in self._queries])
            given = _flat([pairs[name][1] for name in self._queries])
            best = np.argsort(-self._expected[self._queries[0]][0], kind="stable")[: (len(wanted) + 1) // 2]
            distance = (wanted[best] ** 2).sum(1)[:, None] - 2 * wanted[best] @ given.T + (given**2).sum(1)[None]
            nearest = distance.argmin(1)
            for name in self._queries:
                expected, there = pairs[name]
                pairs[name] = (expected[:, best], there[:, nearest])
        return pairs


def _flat(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """[1, N, ...] each -> [N, everything that a query says], every output weighing the same."""
    rows = [array[0].reshape(array.shape[1], -1) for array in arrays]
    return np.concatenate([row / np.sqrt(row.shape[1]) for row in rows], 1)


def _shapes(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def first_line(error: Exception) -> str:
    """ONNX Runtime's messages go on with file names and line numbers of its own source."""
    return (str(error).splitlines() or [type(error).__name__])[0]
