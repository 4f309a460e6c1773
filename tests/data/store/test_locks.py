"""The lock of a work folder that another process deletes or makes while this one takes it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.store.locks import Held, clear, exclusive, is_locked


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    room = tmp_path / "work" / "k"
    assert not is_locked(room)
    with exclusive(room):
        assert is_locked(room)
        with pytest.raises(Held, match="another process"), exclusive(room):
            pass
    assert not is_locked(room)


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[[], None], *, after: bool) -> list[str]:
    """Call `change` before or after the first call of a function. Returns the list that the call is noted in."""
    usual, noted = getattr(owner, name), []

    def call(*arguments: Any, **more: Any) -> Any:
        first = not noted
        noted.append(name)
        if first and not after:
            change()
        answer = usual(*arguments, **more)
        if first and after:
            change()
        return answer

    monkeypatch.setattr(owner, name, call)
    return noted


@pytest.mark.parametrize("moment", ["made", "opened", "locked", "locked, and made again"])
def test_a_folder_that_its_last_holder_deletes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    room = tmp_path / "work" / "k"

    def delete() -> None:
        shutil.rmtree(room)
        if moment == "locked, and made again":
            room.mkdir()
            (room / "lock").touch()

    owner, name = (Path, "mkdir") if moment == "made" else (fcntl, "flock")
    noted = once(monkeypatch, owner, name, delete, after=moment != "opened")
    with exclusive(room):
        assert len(noted) > 1
        with (room / "lock").open("rb") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_comes_and_goes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mkdir` finds it there, and then it is no folder any more."""
    room = tmp_path / "k"

    def there() -> None:
        raise FileExistsError(17, os.strerror(17), str(room))

    noted = once(monkeypatch, Path, "mkdir", there, after=False)
    with exclusive(room):
        assert len(noted) == 2


def test_what_the_next_holder_puts_into_a_folder_survives_its_deletion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "k"
    usual, held = os.unlink, ExitStack()

    def unlink(path: Any, **more: Any) -> None:
        usual(path, **more)
        if Path(path).name == "lock":
            held.enter_context(exclusive(room))
            (room / "scratch").mkdir(exist_ok=True)
            (room / "scratch" / "theirs").touch()

    with exclusive(room):
        (room / "scratch").mkdir()
        (room / "scratch" / "mine").touch()
        monkeypatch.setattr(os, "unlink", unlink)
        clear(room)
    with held:
        assert [path.name for path in (room / "scratch").iterdir()] == ["theirs"]
        assert is_locked(room)


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("x")
    with pytest.raises(FileExistsError), exclusive(tmp_path / "k"):
        pass
    assert not is_locked(tmp_path / "k")
