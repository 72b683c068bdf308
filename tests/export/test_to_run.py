"""A pack becomes a run again: what it answers stays, and training can go on from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.train

from torch import Tensor, nn  # noqa: E402

from export.albert import runs as albert_runs  # noqa: E402
from export.albert.model import Albert  # noqa: E402
from export.albert.pack import graph_and_golden as segmenter_files  # noqa: E402
from export.albert.train import Config as AlbertConfig  # noqa: E402
from export.config import load_preset  # noqa: E402
from export.convert import to_run as command  # noqa: E402
from export.convert.rows import rows  # noqa: E402
from export.convert.to_onnx import ParityError  # noqa: E402
from export.convert.to_run import to_run, weights  # noqa: E402
from export.cropresmoe import runs as cropresmoe_runs  # noqa: E402
from export.cropresmoe.calibrate import Projection  # noqa: E402
from export.cropresmoe.config import Config, build  # noqa: E402
from export.cropresmoe.model import CropResMoE  # noqa: E402
from export.cropresmoe.pack import Served  # noqa: E402
from export.cropresmoe.pack import graph_and_golden as classifier_files  # noqa: E402
from export.cropresmoe.train import start_from  # noqa: E402
from export.training import Checkpoint  # noqa: E402
from services.common.serving.modelpack import Input, Pack, load_pack, write_pack  # noqa: E402
from tests.export.crops_set import write_set  # noqa: E402
from tests.packs import manifest, write_memory_pack  # noqa: E402

SIDE = 64
CLASSIFIER = "backbone: lite0\nsize: 64\ncontext: 0.2\nfrozen: 0\n"
# Narrower than any real one would be folded by the exporter: it computes slices of small weights beforehand.
SEGMENTER = """
preset: {name: tiny, size: 64, stem: lite0, width: 64, depth: 2, part_depth: 1, focus: 4, heads: 2, pyramid: 16,
  queries: 8}
frozen: 0
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Room:
    """What the packs were made of, the packs, and photos."""

    folder: Path
    classifier: CropResMoE
    segmenter: Albert
    classify: Pack
    segment: Pack

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def preset(self, name: str) -> str:
        return str(self.folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    folder = tmp_path_factory.mktemp("packs")
    write_set(folder / "data", {"train": 30, "val": 5})
    (folder / "classifier.yaml").write_text(CLASSIFIER)
    (folder / "segmenter.yaml").write_text(SEGMENTER)
    (folder / "other.yaml").write_text(CLASSIFIER.replace("lite0", "lite2"))
    torch.manual_seed(0)
    classifier = build(load_preset(Config, str(folder / "classifier.yaml")), 3)
    segmenter = Albert(load_preset(AlbertConfig, str(folder / "segmenter.yaml")).preset)
    assert isinstance(classifier, CropResMoE)
    photos = torch.randint(0, 256, (8, SIDE, SIDE, 3), dtype=torch.uint8)
    for model in (classifier, segmenter):
        _live(model, photos)
    shown = Input(height=SIDE, width=SIDE, resize="pad", context=0.2)
    rng = np.random.default_rng(0)
    axes = Projection(np.zeros(1280, np.float32), rng.normal(size=(1280, 8)).astype(np.float32))
    graph, golden = classifier_files(Served(classifier, axes), SIDE)
    made = manifest("classify", "cropresmoe", version="1", size=SIDE).model_copy(update={"input": shown})
    classify = write_pack(folder / "cropresmoe" / "1", made, {"fp32": graph, "golden": golden})
    graph, golden = segmenter_files(segmenter)
    made = manifest("segment", "albert", size=SIDE)
    segment = write_pack(folder / "albert" / "1", made, {"fp32": graph, "golden": golden})
    return Room(folder, classifier, segmenter, load_pack(classify.folder), load_pack(segment.folder))


def _live(model: nn.Module, photos: Tensor) -> None:
    """Make a fresh model like a trained one: no two weights alike, batch norms with statistics of their own."""
    model.train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
        for _ in range(10):
            model(photos)
    model.eval()


def _noise() -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    noise: Tensor = torch.randint(0, 256, (4, SIDE, SIDE, 3), dtype=torch.uint8, generator=seeded)
    return noise


@pytest.fixture(scope="module")
def run(room: Room) -> Path:
    """The classifier's pack as a run."""
    return to_run(room.classify, room.preset("classifier"), room.data, room.folder / "run").parent


def test_a_classifier_answers_as_before_and_training_goes_on_from_it(room: Room, run: Path) -> None:
    names = list(room.classify.manifest.vocabulary.classes)
    model, config = cropresmoe_runs.load_run(run, names)
    with torch.no_grad():
        for a, b in zip(model(_noise()), room.classifier(_noise()), strict=True):
            assert torch.allclose(a, b, atol=1e-3)
    fresh = build(config, len(names))
    assert isinstance(fresh, CropResMoE)
    start_from(fresh, run)
    router = "head.router.weight"
    assert torch.equal(fresh.get_parameter(router), model.get_parameter(router))


def test_a_segmenter_with_a_focus_answers_as_before(room: Room, tmp_path: Path) -> None:
    to_run(room.segment, room.preset("segmenter"), room.data, tmp_path / "run")
    model, _ = albert_runs.load_run(tmp_path / "run")
    with torch.no_grad():
        for a, b in zip(model(_noise()), room.segmenter(_noise()), strict=True):
            assert torch.allclose(a, b, atol=2e-3)


def test_batch_norms_go_on_where_they_were_when_training_starts(room: Room, run: Path) -> None:
    settled, config = cropresmoe_runs.load_run(run, list(room.classify.manifest.vocabulary.classes))
    photos = torch.from_numpy(rows(room.classify.manifest, room.data, "train", command.ROWS))
    folded = build(config, 3)
    assert isinstance(folded, CropResMoE)
    folded.load_state_dict(weights(room.classify.read("fp32"), folded))
    assert _jump(settled, photos) < 1e-2
    assert _jump(folded, photos) > 0.1, "the test could not tell"


def _jump(model: CropResMoE, photos: Tensor) -> float:
    """How far features move when batch norms take the batch's statistics, as a share of their norm."""
    with torch.no_grad():
        still = model.eval().embed(photos)
        moved = model.train().embed(photos)
    return float((moved - still).norm() / still.norm())


def test_another_preset_is_refused_by_the_entry_that_does_not_fit(room: Room, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of another preset: backbone\._blocks\.\d+\."):
        to_run(room.classify, room.preset("other"), room.data, tmp_path / "run")
    (tmp_path / "wide.yaml").write_text(SEGMENTER.replace("width: 64", "width: 96"))
    with pytest.raises(ValueError, match=r"of another preset: \w+ is \[.*\], \[.*\] was expected"):
        to_run(room.segment, str(tmp_path / "wide.yaml"), room.data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_fits_the_weights_and_answers_otherwise_is_refused(room: Room, tmp_path: Path) -> None:
    wider = tmp_path / "focus.yaml"
    wider.write_text(SEGMENTER.replace("focus: 4", "focus: 8"))  # the same weights look at more tokens
    with pytest.raises(ParityError, match="differs from the graph's by"):
        to_run(room.segment, str(wider), room.data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_exists_is_not_written_over(room: Room, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoint.pt"
    kept.write_bytes(b"weeks of work")
    with pytest.raises(ValueError, match=r"checkpoint\.pt exists: choose another --out"):
        to_run(room.classify, room.preset("classifier"), room.data, tmp_path)
    assert kept.read_bytes() == b"weeks of work"


def test_a_memory_pack_is_refused(room: Room, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a memory pack holds no model"):
        to_run(
            load_pack(write_memory_pack(tmp_path / "memory")), room.preset("classifier"), room.data, tmp_path / "run"
        )


def test_a_run_of_a_pack_starts_others_but_is_not_resumed(room: Room, run: Path) -> None:
    config = load_preset(Config, room.preset("classifier"))
    model = build(config, 3)
    checkpoint = Checkpoint(run, config, list(room.classify.manifest.vocabulary.classes))
    with pytest.raises(ValueError, match="holds weights only: choose another --out"):
        checkpoint.resume(torch.Generator(), model=model, optimizer=torch.optim.AdamW(model.parameters()))
