"""What the pipeline makes of the models' answers."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.serving.errors import NotReady
from services.common.serving.schemas import Box, Scored
from services.common.vision.photo import PhotoError
from services.gateway import schemas
from services.gateway.assessment.parts import nearest_side
from services.gateway.assessment.pipeline import Assessment, assess, opened
from services.gateway.assessment.policy import Policy
from services.gateway.assessment.route import summarise
from services.gateway.schemas import Side
from tests.unit.gateway import examples
from tests.unit.gateway.fakes import GRID, VOCABULARY, Fakes, info, instance
from tests.unit.gateway.pictures import BLUE, DARK, RED, photo

UNSURE = (0.3, 0.0, 9.0)  # dent 0.57, scratch 0.43


async def assessed(fakes: Fakes, data: bytes | None = None, **policy: float) -> Assessment:
    rules = Policy(**policy)  # type: ignore[arg-type]
    return await assess(opened(data or photo(RED), rules), fakes.clients, rules, tenant="acme", claim_id="clm_1")


def codes(finding: schemas.Finding) -> list[str]:
    return [reason.code for reason in finding.reasons]


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((GRID, GRID), bool)
    mask[y0:y1, x0:x1] = True
    return mask


async def test_a_clear_damage_is_named_placed_measured_and_routed_auto() -> None:
    found = await assessed(Fakes())
    assert (found.width, found.height) == (320, 240)
    (finding,) = found.findings
    assert (finding.damage, finding.display, finding.damage_score) == ("dent", "Dent", 0.9)
    assert finding.part is not None
    assert (finding.part.name, finding.part.side, finding.part.share) == ("front_left_door", "left", 1.0)
    assert finding.opinion.label == "dent" and finding.opinion.agrees and finding.opinion.source == "model"
    assert finding.opinion.probabilities["tire_flat"] == 0
    assert finding.confidence == finding.opinion.probabilities["dent"] > 0.9
    assert (finding.title, finding.title_confidence) == ("Dent", finding.confidence)
    assert len(finding.opinion.gates) == 5 and len(finding.polygons) == 1
    assert finding.size == "large" and finding.fake.score == 0.05
    assert (finding.route, finding.reasons) == ("auto", [])
    assert set(found.models) == {"segmenter", "classifier"}
    assert {"decode", "segment", "crop", "classify", "describe"} <= set(found.timings_ms)


async def test_the_probability_of_the_name_is_told_apart_from_the_score_of_the_damage() -> None:
    fakes = Fakes()
    names = [Scored(label="scratch", score=0.6), Scored(label="dent", score=0.3)]
    scratch = instance("damage", "scratch", box(2, 2, 9, 9), score=0.9).model_copy(update={"labels": names})
    fakes.segmenter.extra = [scratch]
    (finding,) = [found for found in (await assessed(fakes)).findings if found.damage == "scratch"]
    assert (finding.damage_score, finding.name_probability) == (0.9, 0.6)
    assert [(other.label, other.score) for other in finding.alternatives] == [("dent", 0.3)]


async def test_the_memory_is_asked_once_for_all_damages_of_a_photo() -> None:
    fakes = Fakes()
    mask = np.zeros((GRID, GRID), bool)
    mask[2:5, 2:5] = True
    fakes.segmenter.extra = [instance("damage", "scratch", mask), instance("damage", "dent", mask)]
    assert len((await assessed(fakes)).findings) == 3
    assert fakes.retrieval.calls == 1


async def test_an_unsure_model_is_blended_with_past_cases_that_agree() -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.neighbours = (("dent", 0.05), ("dent", 0.06))
    (finding,) = (await assessed(fakes)).findings
    assert finding.opinion.source == "blended" and finding.opinion.confidence > 0.6
    assert finding.route == "auto"
    assert [neighbour.label for neighbour in finding.neighbours] == ["dent", "dent"]


async def test_past_cases_that_overrule_the_model_send_it_to_review() -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.neighbours = (("scratch", 0.05),) * 3
    (finding,) = (await assessed(fakes, tau=0.58)).findings
    assert finding.opinion.label == "scratch" and finding.opinion.source == "blended"
    assert codes(finding) == ["memory_disagrees", "opinions_disagree"]


async def test_an_answer_that_stays_unsure_goes_to_review() -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.neighbours = (("dent", 0.05), ("scratch", 0.05))
    (finding,) = (await assessed(fakes)).findings
    assert finding.opinion.source == "review" and codes(finding) == ["low_confidence"]


async def test_a_damage_unlike_every_past_case_goes_to_review() -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.neighbours = (("dent", 0.9),)
    (finding,) = (await assessed(fakes)).findings
    assert codes(finding) == ["out_of_distribution"]


@pytest.mark.parametrize("backbone", ["b" * 64, "of another pack"])
async def test_a_lost_or_foreign_memory_sends_unsure_findings_to_review_and_fails_nothing(backbone: str) -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.backbone = backbone
    if backbone == "b" * 64:
        fakes.retrieval.problem = NotReady("The retrieval cannot be reached")
    (finding,) = (await assessed(fakes)).findings
    assert codes(finding) == ["memory_unavailable"] and finding.route == "review"


async def test_a_person_who_named_nearly_the_same_damage_otherwise_is_heard_although_the_model_is_sure() -> None:
    fakes = Fakes()
    fakes.retrieval.neighbours, fakes.retrieval.source = (("scratch", 0.001),), "human"
    (finding,) = (await assessed(fakes)).findings
    assert (finding.opinion.source, codes(finding)) == ("review", ["person_disagrees"])
    assert finding.neighbours[0].source == "human"
    assert fakes.retrieval.asked == {"tenant": "acme", "exclude_claim": "clm_1"}
    fakes.retrieval.source = "training"  # a training crop that lies as near does not outrank a sure model
    (finding,) = (await assessed(fakes)).findings
    assert (finding.opinion.source, finding.route) == ("model", "auto")


async def test_what_a_person_named_settles_a_nearly_identical_damage_that_the_model_is_unsure_of() -> None:
    fakes = Fakes()
    fakes.classifier.logits = UNSURE
    fakes.retrieval.neighbours, fakes.retrieval.source = (("dent", 0.001),), "human"
    (finding,) = (await assessed(fakes)).findings
    assert (finding.opinion.source, finding.opinion.label, finding.route) == ("blended", "dent", "auto")


async def test_a_sure_finding_does_not_need_the_memory() -> None:
    fakes = Fakes()
    fakes.retrieval.problem = NotReady("The retrieval cannot be reached")
    (finding,) = (await assessed(fakes)).findings
    assert (finding.opinion.source, finding.route) == ("model", "auto")


async def test_a_lost_classifier_is_an_error_and_never_a_silent_answer() -> None:
    fakes = Fakes()
    fakes.classifier.problem = NotReady("The classifier cannot be reached")
    with pytest.raises(NotReady):
        await assessed(fakes)


async def test_models_that_speak_different_names_never_work_together() -> None:
    fakes = Fakes()
    fakes.classifier.told = info("classifier", VOCABULARY.model_copy(update={"classes": ("dent", "scratch", "crack")}))
    with pytest.raises(NotReady, match="different names"):
        await assessed(fakes)


@pytest.mark.parametrize("service", ["segmenter", "classifier"])
async def test_a_pack_that_came_up_in_mid_photo_is_never_read_by_the_names_of_the_former(service: str) -> None:
    fakes = Fakes()
    told = getattr(fakes, service).told
    getattr(fakes, service).told = told.model_copy(update={"model": told.model.model_copy(update={"version": "0"})})
    with pytest.raises(NotReady, match=service):
        await assessed(fakes)
    elsewhere = told.model.model_copy(update={"provider": "CUDAExecutionProvider"})
    getattr(fakes, service).told = told.model_copy(update={"model": elsewhere})
    assert (await assessed(fakes)).findings


async def test_models_that_disagree_send_the_damage_to_review() -> None:
    fakes = Fakes()
    fakes.classifier.logits = (0.0, 5.0, 0.0)
    (finding,) = (await assessed(fakes)).findings
    assert codes(finding) == ["opinions_disagree"]
    assert finding.reasons[0].text == "The segmenter sees dent, the second opinion says scratch."
    assert finding.confidence < 0.1


async def test_a_disputed_damage_is_titled_with_both_names_and_how_sure_it_is_one_of_them() -> None:
    fakes = Fakes()
    fakes.classifier.logits = (0.0, 5.0, 0.0)
    fakes.segmenter.extra = [instance("damage", "rust", box(2, 2, 6, 6))]  # a damage that no class means
    dent, rust = (await assessed(fakes)).findings
    assert (dent.damage, dent.display) == ("dent", "Dent")
    assert (dent.title, dent.title_confidence) == ("Dent or scratch", 1.0)
    assert (rust.title, rust.title_confidence) == ("Rust or scratch", rust.opinion.confidence)


async def test_a_damage_that_cannot_occur_on_its_part_goes_to_review() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [
        instance("damage", "dent", box(2, 2, 6, 6)),
        instance("part", "windshield", box(0, 0, 8, 8)),
    ]
    finding = next(f for f in (await assessed(fakes, photo(ground=DARK))).findings if f.part)
    assert "impossible_on_part" in codes(finding)


async def test_the_second_best_part_is_shown_with_its_share() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [
        instance("damage", "scratch", box(0, 0, 10, 4)),
        instance("part", "windshield", box(7, 0, 20, 4)),
        instance("part", "door", box(0, 0, 7, 4)),
    ]
    fakes.classifier.logits = (0.0, 5.0, 0.0)
    (finding,) = (await assessed(fakes, photo(ground=DARK))).findings
    assert finding.part is not None and finding.second_part is not None
    assert (finding.part.name, finding.part.share, finding.part.side) == ("door", 0.7, "left")
    assert (finding.second_part.name, finding.second_part.share) == ("windshield", 0.3)


async def test_a_damage_on_no_part_goes_to_review() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [instance("damage", "dent", box(2, 2, 6, 6))]
    found = await assessed(fakes, photo(ground=DARK))
    assert "part_unknown" in codes(found.findings[0])
    assert [reason.code for reason in found.reasons] == ["no_vehicle"]


async def test_a_damage_that_may_be_mud_goes_to_review_and_mud_itself_is_a_lookalike() -> None:
    fakes = Fakes()
    fakes.segmenter.fake_score = 0.4
    found = await assessed(fakes, photo(RED, BLUE))
    assert [finding.damage for finding in found.findings] == ["dent"]
    assert "looks_fake" in codes(found.findings[0])
    assert [lookalike.display for lookalike in found.lookalikes] == ["Mud"]


async def test_a_damage_no_class_means_keeps_the_segmenters_score_as_confidence() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [instance("damage", "rust", box(2, 2, 6, 6), score=0.77)]
    (finding,) = (await assessed(fakes, photo())).findings
    assert finding.confidence == 0.77


async def test_only_the_surest_findings_are_listed_and_the_rest_is_said() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [instance("damage", "dent", box(x, 2, x + 2, 6), score=0.3 + x / 100) for x in range(9)]
    found = await assessed(fakes, max_findings=3)
    assert [finding.damage_score for finding in found.findings] == [0.9, 0.38, 0.37]
    assert [reason.code for reason in found.reasons] == ["too_many_findings"]


async def test_a_photo_without_damage_needs_no_classifier_run() -> None:
    fakes = Fakes()
    found = await assessed(fakes, photo())
    assert found.findings == [] and fakes.classifier.calls == 0


async def test_a_broken_photo_is_its_own_error() -> None:
    with pytest.raises(PhotoError):
        await assessed(Fakes(), photo(RED)[:900])


def api_photo(*findings: schemas.Finding, status: schemas.PhotoStatus = "succeeded") -> schemas.Photo:
    return schemas.Photo(id="pho_1", status=status, sha256=None, bytes=1, findings=list(findings))


def test_a_claim_without_any_doubt_is_routed_auto() -> None:
    summary = summarise([api_photo(examples.finding(part="hood")), api_photo()])
    assert (summary.route, summary.reasons, summary.findings) == ("auto", [], 1)


def test_findings_of_one_part_on_many_photos_are_one_damaged_part() -> None:
    hood, again = examples.finding(confidence=0.7), examples.finding(confidence=0.95)
    door = examples.finding("scratch", "front_left_door")
    parts = summarise([api_photo(hood, door), api_photo(again)]).parts
    assert [(part.name, part.damages, part.confidence) for part in parts] == [
        ("hood", ["dent"], 0.95),
        ("front_left_door", ["scratch"], 0.9),
    ]


def test_the_same_reason_is_said_once_for_the_claim() -> None:
    reason = schemas.Reason(code="low_confidence", text="Unsure.")
    doubtful = [examples.finding(route="review", reasons=[reason]) for _ in range(2)]
    summary = summarise([api_photo(*doubtful)])
    assert summary.route == "review"
    assert [(r.code, r.text.split(":")[0]) for r in summary.reasons] == [("low_confidence", "2 findings")]


def test_a_claim_with_a_failed_photo_or_no_damage_goes_to_review() -> None:
    assert [r.code for r in summarise([api_photo()]).reasons] == ["no_damage"]
    with_failed = summarise([api_photo(examples.finding()), api_photo(status="failed")])
    assert [r.code for r in with_failed.reasons] == ["photo_failed"]


def test_a_wheel_takes_its_side_from_the_nearest_part_that_has_one() -> None:
    left, right = (0.1, 0.4, 0.3, 0.6), (0.8, 0.4, 1.0, 0.6)
    sided: list[tuple[Box, Side]] = [(left, "left"), (right, "right"), (right, "right")]
    assert nearest_side((0.2, 0.7, 0.3, 0.9), sided) == "left"
    assert nearest_side((0.7, 0.7, 0.8, 0.9), sided) == "right"
    assert nearest_side((0.7, 0.7, 0.8, 0.9), []) is None


async def test_a_detection_that_is_less_likely_than_not_goes_to_review() -> None:
    fakes = Fakes()
    fakes.segmenter.extra = [instance("damage", "dent", box(2, 2, 6, 6), score=0.4)]
    found = await assessed(fakes)
    weak = [finding for finding in found.findings if finding.damage_score < 0.5]
    assert weak and all("weak_detection" in codes(finding) and finding.route == "review" for finding in weak)
