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
    """What a service expects of its graph: one uint8 input [B, *row] and these float32 outputs."""

    input_name: str
    outputs: Sequence[str]


class Golden:
    """One input and what the exporter got for it on the plain CPU provider."""

    def __init__(self, pack: Pack, contract: Contract) -> None:
        self._where = f"{pack.folder}: files.golden"
        self._tolerance, self._parity = pack.manifest.tolerance, pack.manifest.parity
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
            found = run(self.rows)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise PackError(f"{self._where}: the graph cannot run its input: {first_line(error)}") from error
        if _shapes(found) != _shapes(self._expected):
            raise PackError(f"{self._where}: names and shapes are not those that the graph answers")
        for name, expected in self._expected.items():
            worst = float(np.abs(found[name] - expected).max())
            if not worst <= self._tolerance:
                raise PackError(
                    f"{self._where}: {name} differs by {worst:.3g} on the CPU, and {self._tolerance:g} is allowed. "
                    "The graph does not compute what was exported; export the pack again."
                )

    def must_be_near(self, run: Run) -> None:
        """Raises ProviderUnavailable unless every output's relative error is within the pack's parity."""
        try:
            found = run(self.rows)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise ProviderUnavailable(f"the trial run failed: {first_line(error)}") from error
        if _shapes(found) != _shapes(self._expected):
            raise ProviderUnavailable("names and shapes are not those of the golden outputs")
        for name, expected in self._expected.items():
            # A norm below 1 is a row of logits that say nothing: there, what counts is the absolute difference.
            off = float(np.linalg.norm(found[name] - expected) / max(float(np.linalg.norm(expected)), 1.0))
            if not off <= self._parity:
                raise ProviderUnavailable(f"{name} is {off:.1%} off the golden output ({self._parity:.0%} is allowed)")


def _shapes(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def first_line(error: Exception) -> str:
    """ONNX Runtime's messages go on with file names and line numbers of its own source."""
    return (str(error).splitlines() or [type(error).__name__])[0]
