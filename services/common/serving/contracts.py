"""What the graph of each task takes and answers (docs/architecture.md, "What the graphs promise")."""

from __future__ import annotations

from services.common.serving.golden import Contract

CONTRACTS = {
    "segment": Contract(
        input_name="photo",
        outputs=(
            "mask_logits",
            "objectness",
            "iou",
            "damage_logits",
            "fake_logits",
            "part_logits",
            "damaged_logits",
        ),
        queries=("objectness", "mask_logits", "iou", "damage_logits", "fake_logits"),
    ),
    "classify": Contract(input_name="crops", outputs=("logits", "gates", "embedding")),
}
