"""What the command line says when something is wrong."""

from __future__ import annotations

import pytest
from claimsight import cli
from claimsight.errors import Refused


def test_who_is_not_known_is_told_where_the_command_takes_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway's own sentence is about a header, which nobody types here."""

    def app() -> None:
        raise Refused(401, {"detail": "This needs an API key."})

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "CLAIMSIGHT_API_KEY" in capsys.readouterr().err
