"""Promises of decoding: what the segment graph's logits become, one rule at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.parts import LEAST_SHARE
from services.common.vision.vocabulary import Coarse, Damage, Fake, Part, Vocabulary

Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in cells of the graph's mask grid

VOCABULARY = Vocabulary(
    damages=(
        Damage(name="dent", display="Dent", agrees=("dent",)),
        Damage(name="scratch", display="Scratch", agrees=("scratch",)),
        Damage(name="torn", display="Torn", agrees=("broken_part",)),
        Damage(name="missingpart", display="Missing part", agrees=("broken_part",)),
    ),
    fakes=(Fake(name="fakemud", display="Mud"), Fake(name="fakeshadow", display="Shadow")),
    parts=(
        Part(name="hood", display="Hood"),
        Part(name="left_wheel", display="Left wheel", side="left"),
        Part(name="right_wheel", display="Right wheel", side="right"),
    ),
    coarse=(Coarse(name="wheel", display="Wheel", members=("left_wheel", "right_wheel")),),
    classes=("dent", "scratch", "broken_part"),
)
DAMAGES, FAKES = ("dent", "scratch", "missingpart"), ("fakemud",)
SUPPORTED = {"damages": DAMAGES, "fakes": FAKES, "parts": ("hood",), "coarse": ("wheel",)}
SURE = 8.0  # a logit whose probability is 1 to three digits
GRID = 16


class Outputs:
    """The graph's outputs for one photo on which nothing is seen, to be painted on."""

    def __init__(self, queries: int = 3, part_grid: int = GRID) -> None:
        self.arrays: dict[str, Floats] = {
            "mask_logits": np.full((queries, GRID, GRID), -SURE, np.float32),
            "objectness": np.full(queries, -SURE, np.float32),
            "iou": np.full(queries, SURE, np.float32),
            "damage_logits": np.zeros((queries, len(VOCABULARY.damages)), np.float32),
            "fake_logits": np.full((queries, len(VOCABULARY.fakes)), -SURE, np.float32),
            "part_logits": np.zeros((1 + len(VOCABULARY.parts), part_grid, part_grid), np.float32),
            "damaged_logits": np.zeros((GRID, GRID), np.float32),
        }
        self.arrays["part_logits"][0] = SURE  # nowhere a part

    def damage(self, query: int, *boxes: Box, name: str = "dent", objectness: float = SURE) -> Outputs:
        for x0, y0, x1, y1 in boxes:
            self.arrays["mask_logits"][query, y0:y1, x0:x1] = SURE
        self.arrays["objectness"][query] = objectness
        self.arrays["damage_logits"][query, [damage.name for damage in VOCABULARY.damages].index(name)] = SURE
        return self

    def fake(self, query: int, name: str, logit: float) -> Outputs:
        self.arrays["fake_logits"][query, [fake.name for fake in VOCABULARY.fakes].index(name)] = logit
        return self

    def part(self, name: str, box: Box, logit: float = 2 * SURE) -> Outputs:
        x0, y0, x1, y1 = box
        index = 1 + [part.name for part in VOCABULARY.parts].index(name)
        self.arrays["part_logits"][index, y0:y1, x0:x1] = logit
        return self

    def decoded(self, supported: dict[str, tuple[str, ...]] = SUPPORTED, **thresholds: float) -> list[DecodedInstance]:
        return decode_instances(self.arrays, vocabulary=VOCABULARY, supported=supported, thresholds=thresholds)


def test_a_damage_comes_back_with_name_score_box_and_mask() -> None:
    (found,) = Outputs().damage(0, (4, 8, 8, 12)).decoded()
    assert (found.kind, found.label) == ("damage", "dent")
    assert found.score > 0.99 and found.labels[0][1] > 0.99 and found.fake_score < 0.01
    assert found.mask.shape == (2 * GRID, 2 * GRID) and found.mask.dtype == bool
    assert found.box == (0.25, 0.5, 0.5, 0.75)
    assert found.mask[16:24, 8:16].mean() > 0.9  # bilinear doubling may round a corner off
    assert not np.delete(found.mask, np.s_[16:24], axis=0).any()


def test_an_empty_photo_has_no_instances() -> None:
    assert Outputs().decoded() == []


def test_a_sure_query_with_an_empty_mask_is_no_damage() -> None:
    assert Outputs().damage(0).decoded() == []


def test_damages_come_by_score_and_those_below_the_threshold_not_at_all() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4), objectness=0.5).damage(1, (6, 6, 10, 10), objectness=3)
    outputs.damage(2, (12, 12, 16, 16), objectness=-3)
    found = outputs.decoded(damage=0.3)
    assert [round(each.score, 2) for each in found] == [0.98, 0.79]  # the root of objectness
    assert len(outputs.decoded(damage=0.01)) == 3


def test_a_weak_predicted_iou_lowers_the_score() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4))
    outputs.arrays["iou"][0] = 0
    assert outputs.decoded()[0].score == pytest.approx(0.5, abs=1e-3)


def test_queries_that_agree_are_surer_together_than_alone() -> None:
    alone = Outputs().damage(0, (0, 0, 8, 8), objectness=0)
    together = Outputs().damage(0, (0, 0, 8, 8), objectness=0).damage(1, (0, 0, 8, 7), objectness=0)
    (one,), (both,) = alone.decoded(), together.decoded()
    assert both.score > one.score + 0.1
    assert both.mask.shape == one.mask.shape


def test_an_agreed_mask_is_the_mean_of_those_that_agree() -> None:
    outputs = Outputs(5).damage(0, (0, 0, 8, 8), objectness=1)
    for query in range(1, 4):
        outputs.damage(query, (0, 0, 8, 6), objectness=0.9)
    (found,) = outputs.decoded()
    assert found.box == pytest.approx((0, 0, 0.5, 0.375))  # three say that it ends at 6 of 16 rows


def test_an_empty_mask_gets_no_mask_from_the_vote() -> None:
    outputs = Outputs(2).damage(0, (0, 0, 8, 8)).damage(1)
    assert len(outputs.decoded()) == 1


def test_the_score_is_platt_scaled_as_the_pack_says() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4))
    outputs.arrays["iou"][0] = 0
    assert outputs.decoded()[0].score == pytest.approx(0.5, abs=1e-3)
    assert outputs.decoded(score_scale=2.0, score_shift=1.0)[0].score == pytest.approx(1 / (1 + np.e**-1), abs=1e-3)


def test_a_pack_says_what_counts_in_a_score() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4)).damage(1, (6, 6, 10, 10)).part("hood", (6, 6, 10, 10))
    first, second, _ = outputs.decoded()
    assert first.score == pytest.approx(second.score, abs=1e-3)
    on_the_car, off_it, _ = outputs.decoded(rank_off_vehicle=-0.2, rank_constant=0.0, damage=0.1)
    assert on_the_car.box[0] > 0.3 and on_the_car.score > 0.5
    assert off_it.score < 0.3


def test_a_pack_says_how_far_each_damage_reaches_beyond_where_its_mask_is_sure() -> None:
    outputs = Outputs().damage(0, (4, 4, 8, 8)).damage(1, (10, 10, 14, 14), name="scratch")
    outputs.arrays["mask_logits"][0, 4:8, 8:10] = outputs.arrays["mask_logits"][1, 10:14, 8:10] = -0.8

    def widths(**thresholds: float) -> dict[str, int]:
        return {found.label: int(found.mask.any(0).sum()) for found in outputs.decoded(SUPPORTED, **thresholds)}

    narrow = widths()
    assert narrow["dent"] == narrow["scratch"]
    wide = widths(mask_dent=-1.0)
    assert wide["dent"] > narrow["dent"] + 1 and wide["scratch"] == narrow["scratch"]
    assert widths(mask=-1.0, mask_scratch=0.0) == wide


def test_two_queries_on_one_damage_are_one_damage_whatever_they_call_it() -> None:
    outputs = Outputs().damage(0, (0, 0, 8, 8), objectness=1).damage(1, (0, 0, 8, 7), name="scratch", objectness=2)
    (found,) = outputs.decoded()
    assert found.label == "scratch"
    assert len(outputs.decoded(nms_iou=0.95, vote_iou=1.0)) == 2


def test_specks_far_away_neither_stretch_the_box_nor_stay_in_the_mask() -> None:
    (found,) = Outputs().damage(0, (2, 2, 10, 10), (15, 15, 16, 16)).decoded()
    assert found.box == (0.125, 0.125, 0.625, 0.625)
    assert not found.mask[20:, 20:].any()


def test_a_detached_piece_of_some_size_belongs_to_the_damage() -> None:
    outputs = Outputs().damage(0, (0, 0, 6, 6), (13, 13, 16, 16))
    assert outputs.decoded()[0].box == (0, 0, 1, 1)
    assert outputs.decoded(speck=0.5)[0].box[2] < 0.5


def test_names_no_photo_taught_lend_their_probability_to_the_name_of_the_same_classes() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4), name="torn")
    (found,) = outputs.decoded()
    assert found.label == "missingpart" and found.score > 0.9
    assert {label for label, _ in found.labels} <= set(DAMAGES)
    (found,) = outputs.decoded({**SUPPORTED, "damages": (*DAMAGES, "torn")})
    assert found.label == "torn"


def test_an_unsupported_name_that_nothing_else_means_is_masked() -> None:
    (found,) = Outputs().damage(0, (0, 0, 4, 4), name="scratch").decoded({**SUPPORTED, "damages": ("dent",)})
    assert [label for label, _ in found.labels] == ["dent"]
    assert found.labels[0][1] < 0.01  # and gets none of its probability


def test_a_pack_that_knows_no_damage_by_name_lists_none() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4)).damage(1, (8, 8, 12, 12)).fake(1, "fakemud", SURE)
    assert [each.kind for each in outputs.decoded({"fakes": FAKES})] == ["fake"]


def test_what_is_probably_a_fake_is_named_as_one_and_an_unsupported_fake_never() -> None:
    outputs = Outputs().damage(0, (0, 0, 4, 4)).fake(0, "fakemud", 2.0)
    (found,) = outputs.decoded()
    assert (found.kind, found.label, len(found.labels)) == ("fake", "fakemud", 1)
    (found,) = outputs.decoded(fake=0.95)
    assert (found.kind, found.label) == ("damage", "dent") and found.fake_score == pytest.approx(0.88, abs=0.01)
    (found,) = Outputs().damage(0, (0, 0, 4, 4)).fake(0, "fakeshadow", SURE).decoded()
    assert (found.kind, found.fake_score < 0.01) == ("damage", True)


def test_a_fine_part_is_one_thing_and_a_coarse_one_as_many_as_are_seen() -> None:
    outputs = Outputs().part("hood", (0, 0, 4, 4)).part("hood", (8, 0, 12, 4))
    outputs.part("left_wheel", (0, 10, 4, 14)).part("right_wheel", (10, 10, 14, 14))
    found = outputs.decoded()
    assert sorted(each.label for each in found) == ["hood", "wheel", "wheel"]
    assert {each.box for each in found if each.label == "wheel"} == {
        (0, 0.625, 0.25, 0.875),
        (0.625, 0.625, 0.875, 0.875),
    }
    assert next(each for each in found if each.label == "hood").box == (0, 0, 0.75, 0.25)


def test_a_coarse_part_sums_members_between_which_the_graph_is_torn() -> None:
    everywhere = (0, 0, GRID, GRID)
    outputs = Outputs().part("left_wheel", everywhere, SURE + 0.5).part("right_wheel", everywhere, SURE + 0.5)
    (found,) = outputs.decoded()  # 0.38 each, 0.77 together
    assert found.label == "wheel" and found.score == pytest.approx(0.767, abs=0.01)


def test_a_fine_part_that_is_served_itself_is_not_counted_again_in_the_coarse_one() -> None:
    both = {**SUPPORTED, "parts": ("hood", "left_wheel")}
    unsure = Outputs().part("left_wheel", (0, 0, 8, 8), SURE - 0.4)  # 0.4; no part has 0.6
    assert unsure.decoded(both, part=0.1) == []
    sure = Outputs().part("left_wheel", (0, 0, 8, 8)).part("right_wheel", (8, 8, 16, 16)).damage(0, (2, 2, 6, 6))
    damage, *parts = sure.decoded(both)
    assert sorted(each.label for each in parts) == ["left_wheel", "wheel"], "what is left of the coarse name is it"
    assert damage.on[0][0] == "left_wheel"
    assert "wheel" not in [name for name, _ in damage.on], "who reads the fine name need not read the coarse one too"


def test_an_unsupported_part_counts_as_none() -> None:
    outputs = Outputs().part("left_wheel", (0, 0, 8, 8))
    assert outputs.decoded({**SUPPORTED, "coarse": ()}) == []
    assert outputs.decoded({"damages": DAMAGES}) == []


def test_parts_that_are_too_unsure_or_too_small_are_not_listed() -> None:
    outputs = Outputs().part("hood", (0, 0, 4, 4))
    assert len(outputs.decoded()) == 1
    assert outputs.decoded(part=1.0) == []
    assert outputs.decoded(part_area=0.2) == []


@pytest.mark.parametrize("coarser", [1, 2, 4])
def test_parts_of_a_coarser_grid_come_on_the_grid_of_the_damages(coarser: int) -> None:
    outputs = Outputs(part_grid=GRID // coarser).damage(0, (0, 0, 8, 8))
    outputs.part("hood", (0, 0, 8 // coarser, 8 // coarser))
    damage, part = outputs.decoded()
    assert (damage.kind, part.kind) == ("damage", "part")
    assert part.mask.shape == damage.mask.shape == (2 * GRID, 2 * GRID)
    assert max(part.box[2:]) == pytest.approx(0.5, abs=coarser / GRID)


def test_a_damage_says_on_which_parts_it_lies_and_how_much_of_it() -> None:
    seen = Outputs().part("hood", (0, 0, 8, 16)).part("left_wheel", (8, 0, 16, 16)).damage(0, (2, 4, 10, 8))
    (found,) = [each for each in seen.decoded() if each.kind == "damage"]
    (first, share), (second, rest) = found.on
    assert (first, second) == ("hood", "wheel")
    assert [share, rest] == pytest.approx([0.75, 0.25], abs=0.04)


def test_of_two_parts_the_one_that_can_have_the_damage_comes_first() -> None:
    wheels = [part.model_copy(update={"damages": ("scratch",)}) for part in VOCABULARY.parts[1:]]
    hood = VOCABULARY.parts[0].model_copy(update={"damages": ("dent",)})
    fussy = VOCABULARY.model_copy(update={"parts": (hood, *wheels)})

    def first(damage: str) -> str:
        seen = Outputs().part("hood", (0, 0, 6, 16)).part("left_wheel", (6, 0, 16, 16))
        seen.damage(0, (2, 4, 10, 8), name=damage)
        found = decode_instances(seen.arrays, vocabulary=fussy, supported=SUPPORTED, thresholds={})
        return next(each.on[0][0] for each in found if each.kind == "damage")

    assert (first("dent"), first("scratch")) == ("hood", "wheel")


def test_a_damage_on_no_part_names_parts_with_next_to_nothing_of_it() -> None:
    (found,) = Outputs().damage(0, (4, 8, 8, 12)).decoded()
    assert all(share < LEAST_SHARE for _, share in found.on)
