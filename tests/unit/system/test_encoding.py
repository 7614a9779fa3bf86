"""What is printed where the encoding lacks a sign."""

from __future__ import annotations

import io
import sys

import pytest

from besom.system.encoding import make_output_readable


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "▁▂▃▄▅▆▇█ lr=0.1…", "_.-~=+*# lr=0.1~"),
        ("ascii", "größe=é 学", "gro?e=e ?"),
        ("latin-1", "größe … ×", "größe ~ ×"),
        ("utf-8", "▁█ größe …", "▁█ größe …"),
        ("utf-8", "name\udce9", "name?"),  # a file's name that is no UTF-8
    ],
)
def test_what_the_encoding_lacks_is_shown_by_a_similar_sign(
    encoding: str, text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    make_output_readable()
    print(text, end="", flush=True)
    assert written.getvalue().decode(encoding) == shown
