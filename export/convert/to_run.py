"""A pack back to a run: `python -m export.convert.to_run --pack P --preset albert-fine --data ../data --out runs/seg`.

Whoever has only the pack can go on from it: the folder takes the place of a training run wherever one is asked for
(`--init`, `--run`, `--teacher`). The exporter folds batch norms into convolutions and turns matrices round; both are
undone here, and the model must answer as the graph does before anything is written. The optimiser's state is not in a
pack, so a run is started from the folder, not resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from export.albert import train as albert
from export.albert.model import Albert
from export.config import load_preset
from export.convert.rows import rows
from export.convert.to_onnx import ParityError, run
from export.cropresmoe import config as cropresmoe
from export.training import commands_error
from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import Pack, load_pack

ROWS = 48  # training rows that batch norms take their statistics from
_COMPARED = {"segment": 7, "classify": 2}  # a classifier's third output is the pack's projection of the model's


def weights(graph: bytes, model: nn.Module) -> dict[str, Tensor]:
    """`model`'s state as the fp32 `graph` holds it; every batch norm passes its input through and adds a bias.

    Raises ValueError naming the first weight that the graph lacks or has in another shape.
    """
    loaded = onnx.load_model_from_string(graph)
    held = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in loaded.graph.initializer}
    held |= dict(_matrices(loaded, held)) | dict(_cut_biases(loaded, held))
    held = {name.removeprefix("model."): value for name, value in held.items()}
    state = model.state_dict()
    for convolution, norm in folded(model):
        bias = held.get(f"{convolution}.weight_bias")
        if bias is None:
            raise ValueError(f"the graph is of another preset: {convolution} has no batch norm folded in")
        norm_module = model.get_submodule(norm)
        assert isinstance(norm_module, nn.BatchNorm2d)
        one = torch.ones_like(bias)
        held |= {
            f"{norm}.weight": one,
            f"{norm}.bias": bias,
            f"{norm}.running_mean": 0 * one,
            f"{norm}.running_var": one - norm_module.eps,
            f"{norm}.num_batches_tracked": state[f"{norm}.num_batches_tracked"],
        }
    for name, value in state.items():
        if name not in held or held[name].shape != value.shape:
            found = f"is {list(held[name].shape)}" if name in held else "is missing"
            raise ValueError(f"the graph is of another preset: {name} {found}, {list(value.shape)} was expected")
    return {name: held[name].to(value.dtype) for name, value in state.items()}


def _matrices(model: onnx.ModelProto, held: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights of linear layers, which the exporter keeps transposed and nameless: their bias is added next."""
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in held:
            added = _added_behind(model, node, held)
            if added.endswith(".bias"):
                yield added.removesuffix("bias") + "weight", held[node.input[1]].T.contiguous()


def _cut_biases(model: onnx.ModelProto, held: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Biases of linear layers used in parts, queries in focus apart from keys and values: nameless pieces."""
    pieces: dict[str, list[tuple[int, Tensor]]] = {}
    for node in model.graph.node:
        if node.op_type == "Slice" and node.input[0].endswith(".weight"):
            added = _added_behind(model, node, held)
            if added:
                pieces.setdefault(node.input[0], []).append((int(held[node.input[1]]), held[added]))
    for weight, parts in pieces.items():
        yield weight.removesuffix("weight") + "bias", torch.cat([part for _, part in sorted(parts, key=itemgetter(0))])


def _added_behind(model: onnx.ModelProto, node: onnx.NodeProto, held: dict[str, Tensor]) -> str:
    """The constant that is added to what becomes of `node`'s output by transposing and multiplying; "" for none."""
    while node.op_type in ("Slice", "Transpose", "MatMul"):
        following = next((n for n in model.graph.node if node.output[0] in n.input), None)
        if following is None:
            return ""
        node = following
    return next((name for name in node.input if name in held), "") if node.op_type == "Add" else ""


def folded(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Convolutions and the batch norms behind them, by name: a norm is registered right after its convolution."""
    before = ""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield before, name
        if isinstance(module, nn.Conv2d):
            before = name


@torch.no_grad()
def settle(model: nn.Module, photos: Tensor) -> None:
    """Give batch norms the statistics of `photos`, uint8 [n, S, S, 3]; what the model computes stays the same.

    A norm that passes everything through would scale its channels as soon as it is trained.
    """
    moments: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments[norm] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False))

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                handle = module.register_forward_pre_hook(note)
                hooks.callback(handle.remove)
        model.eval()(photos)
    for norm, (mean, variance) in moments.items():
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def must_agree(model: nn.Module, pack: Pack, photos: Tensor, tolerance: float = 5e-3) -> None:
    """Raises ParityError where the model answers otherwise than the pack's graph, uint8 rows [n, S, S, 3]."""
    contract = CONTRACTS[pack.manifest.task]
    with torch.no_grad():
        given = model(photos)
    wanted = run(pack.read("fp32"), {contract.input_name: photos.numpy()})
    names = contract.outputs[: _COMPARED[pack.manifest.task]]
    for name, a, b in zip(names, given, wanted, strict=False):
        worst = float(np.abs(a.numpy() - b).max())
        if not worst <= tolerance:
            raise ParityError(f"{name} differs from the graph's by {worst:.2g}: is it of this preset?")


def to_run(pack: Pack, preset: str, data: Path, out: Path) -> Path:
    """Write `out/checkpoint.pt`. Raises ValueError, ParityError, and FileNotFoundError for an unknown preset."""
    classes = list(pack.manifest.vocabulary.classes)
    model: nn.Module
    config: Any
    if pack.manifest.task == "segment":
        config = load_preset(albert.Config, preset)
        model, names = Albert(config.preset), None
    elif pack.manifest.task == "classify":
        config = load_preset(cropresmoe.Config, preset)
        model, names = cropresmoe.build(config, len(classes)), classes
    else:
        raise ValueError(f"{pack.folder}: a {pack.manifest.task} pack holds no model")
    path = out / "checkpoint.pt"
    if path.exists():
        raise ValueError(f"{path} exists: choose another --out")
    model.load_state_dict(weights(pack.read("fp32"), model))
    photos = torch.from_numpy(rows(pack.manifest, data, "train", ROWS))
    settle(model, photos)
    must_agree(model, pack, photos[:2])
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"config": asdict(config), "names": names, "averaged": model.state_dict()}, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a pack back into a run, to go on training from it.")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--preset", required=True, help="the preset that the pack was trained with")
    parser.add_argument("--data", type=Path, required=True, help="training photos, for the statistics of batch norms")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    args = parser.parse_args()
    with commands_error():
        try:
            print(to_run(load_pack(args.pack), args.preset, args.data, args.out))
        except ParityError as error:
            raise ValueError(f"{args.pack}: {error}") from error


if __name__ == "__main__":
    main()
