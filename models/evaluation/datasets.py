"""The published data sets of copies and of near-duplicates, read as they are distributed, with their own protocols."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.evaluation.metrics import average_precision, first_four
from stream.errors import SettingError

UKBENCH_GROUP = 4
_HOLIDAYS_NAME = re.compile(r"\d{6}")
_UKBENCH_NAME = re.compile(r"ukbench(\d{5})")
# Digits of a Copydays name that all pictures made from one original share.
_COPYDAYS_SHARED = 4

Measure = Callable[[Sequence[int], int], float]
"""Places of what is right in a ranking, from 0, and how many are right in all -> the figure of one query."""


@dataclass(frozen=True, slots=True)
class Search:
    """Queries of one kind.

    Attributes:
        queries: places in `Dataset.files`.
        right: for every query the rows to find, places in `Dataset.files` below `Dataset.rows`.
    """

    name: str
    queries: Sequence[int]
    right: Sequence[frozenset[int]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set and its protocol.

    Attributes:
        files: all pictures; the first `rows` of them are searched.
        measure: of one query; the figure is the mean over the queries of a search.
        finds_itself: whether a query that is a row may be ranked; if not, it is left out of its own ranking.
    """

    name: str
    protocol: str
    files: Sequence[Path]
    rows: int
    searches: Sequence[Search]
    measure: Measure
    finds_itself: bool


def copydays(folder: Path) -> Dataset:
    """INRIA Copydays: originals, and one folder for every attack: `strong`, `crops/10`, `jpegqual/3`, …

    The archives of the originals and of the strong attacks have no folders: what lies in `folder` itself is an original
    when its name ends in 00, else strong; folders `original` and `strong` are taken, too.

    Raises:
        SettingError: no originals, no attacks, or a picture without an original.
    """
    by_attack: dict[str, list[Path]] = {}
    for file in _pictures(folder):
        within = file.parent.relative_to(folder).as_posix()
        flat = "original" if file.stem.endswith("00") else "strong"
        by_attack.setdefault(flat if within == "." else within, []).append(file)
    originals = by_attack.pop("original", [])
    if not originals or not by_attack:
        raise SettingError(
            f"{folder}: Copydays has originals (200000.jpg, 200100.jpg, …, or in a folder original) and the folders "
            "crops/10 …, jpegqual/3 …, strong"
        )
    owners = {file.stem[:_COPYDAYS_SHARED]: place for place, file in enumerate(originals)}
    if len(owners) < len(originals):
        raise SettingError(f"{folder}: two originals begin with the same {_COPYDAYS_SHARED} digits")
    files, searches = list(originals), []
    for name in sorted(by_attack, key=_by_number):
        attacked = by_attack[name]
        orphans = [file for file in attacked if file.stem[:_COPYDAYS_SHARED] not in owners]
        if orphans:
            raise SettingError(f"{orphans[0]} has no original")
        right = [frozenset({owners[file.stem[:_COPYDAYS_SHARED]]}) for file in attacked]
        searches.append(Search(name, range(len(files), len(files) + len(attacked)), right))
        files += attacked
    return Dataset(
        "Copydays", "mAP per attack, searched among the originals", files, len(originals), searches,
        average_precision, finds_itself=True,
    )  # fmt: skip


def holidays(folder: Path) -> Dataset:
    """INRIA Holidays: names of six digits; those that end in 00 ask for the others that begin like them.

    Raises:
        SettingError: no such pictures, or none that has others.
    """
    files = _once([file for file in _pictures(folder) if _HOLIDAYS_NAME.fullmatch(file.stem)])
    groups = _grouped(files, lambda file: int(file.stem) // 100)
    queries = [place for place, file in enumerate(files) if int(file.stem) % 100 == 0]
    right = [groups[int(files[place].stem) // 100] - {place} for place in queries]
    if not queries or not all(right):
        raise SettingError(f"{folder}: Holidays has pictures like 100000.jpg and 100001.jpg, for every query others")
    search = Search("all", queries, right)
    return Dataset(
        "Holidays", "mAP; a query is left out of its own ranking", files, len(files), [search],
        average_precision, finds_itself=False,
    )  # fmt: skip


def ukbench(folder: Path) -> Dataset:
    """UKBench: ukbench00000.jpg and on, four pictures in a row of one object; of the folder `full` where there is one.

    Raises:
        SettingError: no such pictures, or a group that is not of four.
    """
    inside = folder / "full" if (folder / "full").is_dir() else folder
    files = _once([file for file in _pictures(inside) if _UKBENCH_NAME.fullmatch(file.stem)])
    groups = _grouped(files, _ukbench_group)
    short = [group for group, members in groups.items() if len(members) != UKBENCH_GROUP]
    if not files or short:
        lacking = f"; not so around ukbench{short[0] * UKBENCH_GROUP:05}" if short else ""
        raise SettingError(f"{folder}: UKBench has ukbench00000.jpg and on, four of every object{lacking}")
    search = Search("all", range(len(files)), [groups[_ukbench_group(file)] for file in files])
    return Dataset(
        "UKBench", "N-S score: how many of the four are among the first four, 4 at most", files, len(files), [search],
        first_four, finds_itself=True,
    )  # fmt: skip


_READERS = {"copydays": copydays, "holidays": holidays, "ukbench": ukbench}


def read_dataset(name: str, folder: Path) -> Dataset:
    """The data set of this name in this folder.

    Raises:
        SettingError: the folder does not hold it.
    """
    return _READERS[name](folder)


def _ukbench_group(file: Path) -> int:
    return int(file.stem.removeprefix("ukbench")) // UKBENCH_GROUP


def _grouped(files: Sequence[Path], group_of: Callable[[Path], int]) -> dict[int, frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for place, file in enumerate(files):
        groups.setdefault(group_of(file), set()).add(place)
    return {group: frozenset(places) for group, places in groups.items()}


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".jpg" and file.is_file())


def _once(files: Sequence[Path]) -> list[Path]:
    """These, or an error when two have the same name: a second copy would be everybody's best answer."""
    known: dict[str, Path] = {}
    for file in files:
        if known.setdefault(file.stem, file) != file:
            raise SettingError(f"{known[file.stem]} and {file} have the same name; give the folder of one of them")
    return list(files)


def _by_number(name: str) -> tuple[str, int, str]:
    kind, _, strength = name.rpartition("/")
    return (kind, int(strength), name) if strength.isdigit() else (name, 0, name)
