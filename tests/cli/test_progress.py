"""A bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io

import pytest

from edge_sdk.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def stderr_as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called within a test: pytest sets stderr again when the test begins."""
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    return screen


def test_a_terminal_sees_how_many_are_done_and_stdout_only_the_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = stderr_as_terminal(monkeypatch)
    with Progress(3) as progress:
        for number in range(3):
            progress.show(f"result {number}")
            progress.advance()
        progress.complain("edge-sdk: [bold]no markup[/bold]")
    assert capsys.readouterr().out.splitlines() == ["result 0", "result 1", "result 2"]
    drawn = terminal.getvalue()
    assert "3/3" in drawn and "edge-sdk: [bold]no markup[/bold]" in drawn


def test_a_single_input_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = stderr_as_terminal(monkeypatch)
    with Progress(1) as progress:
        progress.advance()
    assert terminal.getvalue() == ""


def test_elsewhere_there_is_nothing_but_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2) as progress:
        progress.show("one")
        progress.advance()
        progress.complain("two")
    assert capsys.readouterr() == ("one\n", "two\n")
