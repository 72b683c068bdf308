"""A student learns from its teacher, looks only where damage is likely, and takes over what fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from export.albert.blocks import EncoderBlock
from export.albert.data import MASK_SIDE, PartSets, Photos, Sample
from export.albert.distil import Lesson, inherit, shrunk
from export.albert.model import OUTPUTS, Albert, Preset
from export.albert.runs import load_run
from export.albert.soft import softened
from export.albert.train import Config, train
from export.convert.to_onnx import to_onnx
from export.labels import load_labels

pytestmark = pytest.mark.train
TEACHER = Preset(name="teacher", size=96, stem="lite0", width=32, depth=3, heads=2, pyramid=16, queries=10)
STUDENT = dataclasses.replace(TEACHER, name="student", size=64, depth=2, part_depth=1, focus=4, queries=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _photos() -> Photos:
    mask = np.zeros((MASK_SIDE, MASK_SIDE), bool)
    mask[40:200, 60:260] = True
    labels, rng = load_labels(), np.random.default_rng(0)
    sets = PartSets(labels, "parts18")
    doors = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    doors[:, :160] = sets.index["front_left_door"]
    pixels = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
    return Photos(
        [Sample(pixels, [mask], [("dent",)]), Sample(pixels, [], [], doors)], labels, sets, torch.device("cpu")
    )


def test_what_is_in_focus_comes_out_as_without_a_focus_and_the_rest_stays() -> None:
    block = EncoderBlock(32, 2, 0.0).eval()
    x, focus = torch.randn(2, 10, 32), torch.tensor([[1, 7, 3], [0, 9, 4]])
    with torch.no_grad():
        everywhere, there = block(x), block(x, focus)
    for photo, rows in enumerate(focus.tolist()):
        rest = [i for i in range(10) if i not in rows]
        assert torch.allclose(there[photo, rows], everywhere[photo, rows], atol=1e-6)
        assert torch.equal(there[photo, rest], x[photo, rest])


def test_a_focus_on_every_token_changes_nothing() -> None:
    gated = Albert(dataclasses.replace(STUDENT, focus=16)).eval()
    plain = Albert(dataclasses.replace(STUDENT, focus=0)).eval()
    plain.load_state_dict(gated.state_dict(), strict=False)
    photo = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        for a, b in zip(gated(photo), plain(photo), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_a_gated_graph_exports_with_a_dynamic_batch() -> None:
    photos = torch.randint(0, 255, (8, 64, 64, 3), dtype=torch.uint8)
    assert to_onnx(Albert(STUDENT), photos, "photo", OUTPUTS, tolerance=1e-2)


def test_a_student_starts_as_its_teacher_where_they_are_alike() -> None:
    teacher, student = Albert(TEACHER), Albert(STUDENT)
    inherit(student, teacher)
    first, last = student.blocks[0].state_dict(), student.blocks[1].state_dict()
    assert all(torch.equal(v, teacher.blocks[0].state_dict()[k]) for k, v in first.items())
    assert all(torch.equal(v, teacher.blocks[2].state_dict()[k]) for k, v in last.items())
    assert torch.equal(student.part_tokens, teacher.part_tokens)
    assert student.position.shape == (1, 16, 32)
    with pytest.raises(ValueError, match="the student's width is 48, the teacher's 32"):
        inherit(Albert(dataclasses.replace(STUDENT, width=48)), teacher)


def test_soft_names_are_the_divergence_times_the_square_of_the_temperature() -> None:
    given, wanted = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 0.0, 0.0]])
    p, q = (wanted / 2).softmax(-1), (given / 2).softmax(-1)
    assert torch.allclose(softened(given, wanted, 2.0), 4 * (p * (p / q).log()).sum(-1))
    assert float(softened(given, given, 3.0)) == pytest.approx(0.0, abs=1e-6)


def test_a_batch_is_made_smaller_with_its_labels() -> None:
    photos = _photos()
    large = photos.batch([0, 1], 96, torch.Generator().manual_seed(0), augment=False)
    small = shrunk(large, 64)
    assert small.photos.shape == (2, 64, 64, 3)
    assert small.masks.shape == (1, 16, 16)
    assert float(small.masks.mean()) == pytest.approx(float(large.masks.mean()), abs=0.05)
    assert small.part_map.shape == (2, 16, 16)
    assert set(small.part_map.flatten().tolist()) == set(large.part_map.flatten().tolist())


def test_distilling_brings_the_student_nearer_to_its_teacher_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, photos = Albert(TEACHER), _photos()
    config = Config(preset=STUDENT, epochs=6, batch=2, frozen=0, lr=2e-3, ema=0.5)
    lesson = Lesson(teacher, config, torch.device("cpu"))
    train(config, photos, torch.ones(2), tmp_path, Albert(STUDENT), terms=lesson, side=96)
    train(
        dataclasses.replace(config, epochs=8), photos, torch.ones(2), tmp_path, Albert(STUDENT), terms=lesson, side=96
    )
    rows = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"features"' in line]
    assert len(rows) == 8, "six epochs and two more"
    features = [float(row.split('"features": ')[1].split(",")[0].rstrip("}")) for row in rows]
    assert features[-1] < features[0]
    assert load_run(tmp_path)[0].preset == STUDENT
