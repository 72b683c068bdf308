"""A setting comes from a flag, the environment or a secret file, in that order; a wrong one says which it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.serving.settings import InvalidSettings
from services.segmenter.settings import Settings


def test_flag_then_environment_then_secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_command_line("x", []).port == 8001
    (tmp_path / "port").write_text("7001\n")
    monkeypatch.setenv("CLAIMSIGHT_SEGMENTER_PORT_FILE", str(tmp_path / "port"))
    assert Settings.from_command_line("x", []).port == 7001
    monkeypatch.setenv("CLAIMSIGHT_SEGMENTER_PORT", "7002")
    assert Settings.from_command_line("x", []).port == 7002
    assert Settings.from_command_line("x", ["--port", "7003"]).port == 7003


def test_flags_are_spelt_with_hyphens() -> None:
    assert Settings.from_command_line("x", ["--max-batch", "4", "--require-gpu", "true"]).require_gpu


def test_a_value_that_does_not_fit_names_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        Settings.from_command_line("python -m services.segmenter", ["--max-batch", "0", "--provider", "gpu"])
    said = str(caught.value.code)
    assert "--max-batch" in said and "--provider" in said and "auto" in said


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAIMSIGHT_SEGMENTER_PORT_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as caught:
        Settings.from_command_line("x", [])
    assert "nowhere" in str(caught.value.code)


def test_a_service_without_a_command_line_names_the_variable_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAIMSIGHT_SEGMENTER_PROVIDER", "gpu")
    with pytest.raises(InvalidSettings, match=r"CLAIMSIGHT_SEGMENTER_PROVIDER: .*'cuda'"):
        Settings.from_environment()


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.from_command_line("x", ["--help"])
    said = capsys.readouterr().out
    for flag in ("--pack", "--provider", "--require-gpu", "--metrics-port"):
        assert flag in said
