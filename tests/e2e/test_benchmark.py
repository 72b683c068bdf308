"""The benchmark runs and prints its table. What it measures is no test's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import end_to_end
from tests.e2e.scenes import pack_environment


def test_the_benchmark_prints_a_row_for_every_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in pack_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    end_to_end.main(["--rounds", "2", "--idle-seconds", "0.1", "--width", "640"])
    printed = capsys.readouterr().out
    for row in ("claim / (decode + runs)", "start to ready", "RSS", "idle CPU", "base installation"):
        assert row in printed
    assert "albert 1, fp32 on CPUExecutionProvider" in printed
