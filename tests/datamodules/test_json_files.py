"""JSON that is read again: damage is a sentence with the file and the way out, or leads to a new computation."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.errors import UsageError
from datamodules.json_files import known_json, read_json


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"not readable JSON \(.*No such file"),
        (b"", r"not readable JSON \(Expecting value"),
        (b'{"kept": ', r"not readable JSON \(Expecting value"),
        (b"\xff\xfe", r"not readable JSON \(.*codec can't decode"),
        (b"[1, 2]", "an object is expected there"),
    ],
)
def test_damage_is_told_with_the_file_and_the_way_out(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "kept.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"kept\.json: {said}.*; look elsewhere\.$"):
        read_json(file, dict, "look elsewhere")
    assert known_json(file) == {}


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.json").write_text("[1]")
    assert read_json(tmp_path / "a.json", dict, "") == known_json(tmp_path / "a.json") == {"a": 1}
    assert read_json(tmp_path / "b.json", list, "") == [1]
