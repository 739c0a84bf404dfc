"""Training: what is trained on, what it lowers, and that an interruption changes nothing that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.edits import FAMILIES, UNTRAINED
from models.network import Backbone, CopyDetector, network_with
from models.photos import SPLITS, TEST, TUNE, UNSEEN, Photo, read_photos, split
from models.training import stage as stages
from models.training.checkpoint import Progress, load, save
from models.training.device_views import DeviceViews, turned_by_quarters
from models.training.loop import Recipe
from models.training.loss import Queue, contrastive, entropy, loss
from models.training.stage import network_from, run_stage
from models.training.views import Pictures, Rounds, Views, neighbours_of
from stream.errors import SettingError

pytestmark = pytest.mark.torch


def drawn(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for n in range(70):
        drawn(n).save(made / f"{n:03}.png")
    return made


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Pictures:
    return Pictures.of([Photo("", file.name, file.read_bytes()) for file in sorted(folder.iterdir())])


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def test_views_are_two_and_seeded(pictures: Pictures) -> None:
    """The same seed and photo give the same two views, another round others. Break: the module's `random`."""
    views = Views(pictures, 1)
    place, made = views[0, 64, 3]
    assert place == 3
    assert made.shape == (2, 64, 64, 3)
    assert made.dtype == torch.uint8
    assert torch.equal(made, views[0, 64, 3][1])
    assert not torch.equal(made, views[1, 64, 3][1])
    assert not torch.equal(made, Views(pictures, 2)[0, 64, 3][1])


def test_six_families_are_never_trained_on() -> None:
    """Two each of geometry, colour and overlay. Break: give `lens` a `draw`."""
    kinds = sorted(FAMILIES[name].kind for name in UNTRAINED)
    assert kinds == ["colour", "colour", "geometry", "geometry", "overlay", "overlay"]
    assert len([family for family in FAMILIES.values() if family.draw]) >= 24


def test_a_round_holds_every_photo_once_and_neighbours_together() -> None:
    """Photos 2n and 2n + 1 are neighbours: they come side by side. Break: leave the order as drawn."""
    angles = np.repeat(np.linspace(0, np.pi, 20), 2) + np.tile([0, 0.01], 20)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    neighbours = neighbours_of(vectors)
    assert neighbours[:, 0].tolist() == [place ^ 1 for place in range(40)]
    rounds = Rounds(40, 8, seed=1, first=3, side=64)
    plain = list(islice(rounds, rounds.steps))
    assert sorted(place for batch in plain for _, _, place in batch) == list(range(40))
    assert any(batch[n][2] // 2 != batch[n + 1][2] // 2 for batch in plain for n in range(0, 8, 2))
    rounds.neighbours = neighbours
    batches = list(islice(rounds, rounds.steps))
    assert sorted(place for batch in batches for _, _, place in batch) == list(range(40))
    assert all(batch[n][2] // 2 == batch[n + 1][2] // 2 for batch in batches for n in range(0, 8, 2))


def test_rounds_follow_each_other() -> None:
    """Each has its number and an order of its own; a new side holds from the next batch.

    Break: number every round 0.
    """
    batches = iter(Rounds(10, 4, seed=1, first=3, side=64))
    first, second, third = next(batches), next(batches), next(batches)
    assert [{number for number, _, _ in batch} for batch in (first, second, third)] == [{3}, {3}, {4}]
    assert first != [(3, 64, place) for _, _, place in third]
    rounds = Rounds(10, 4, seed=1, first=0, side=64)
    begun = iter(rounds)
    next(begun)
    rounds.side = 96
    assert {side for _, side, _ in next(begun)} == {96}


def test_device_views_show_their_photo(pictures: Pictures) -> None:
    """Drawn from a seed; most views of a photo are nearer to it than to another one; none is all of one colour.

    Break: take the photos in another order than asked for.
    """
    owners = torch.arange(64) % 32
    views = DeviceViews(pictures, "cpu", 1)(owners, 64)
    assert views.shape == (64, 64, 64, 3)
    assert views.dtype == torch.uint8
    assert torch.equal(views, DeviceViews(pictures, "cpu", 1)(owners, 64))
    assert not torch.equal(views, DeviceViews(pictures, "cpu", 2)(owners, 64))
    assert views.float().std(dim=(1, 2, 3)).min() > 1
    means = torch.stack([torch.from_numpy(np.array(picture)).float().mean(dim=(0, 1)) for picture in pictures[:32]])
    nearest = torch.cdist(views.float().mean(dim=(1, 2)), means).argsort(dim=1)[:, :8]
    assert (nearest == owners[:, None]).any(dim=1).float().mean() > 0.36


def test_quarter_turns() -> None:
    """Of one view each way. Break: turn all alike."""
    view = torch.arange(4.0).view(1, 1, 2, 2).expand(4, 3, 2, 2)
    turned = turned_by_quarters(view, torch.arange(4))
    assert turned[:, 0].tolist() == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


@pytest.mark.parametrize(("backbone", "channels"), [("small", 576), ("large", 960)])
def test_the_backbone_is_known_from_the_tensors(backbone: Backbone, channels: int, tmp_path: Path) -> None:
    """What was trained with the flag is loaded without it; a start of the other backbone is refused.

    Break: build the small one whatever the tensors say.
    """
    state = {name: value.contiguous() for name, value in CopyDetector(backbone).state_dict().items()}
    assert state["projection.weight"].shape == (256, channels)
    assert network_with(state)(torch.zeros((1, 224, 224, 3), dtype=torch.uint8)).shape == (1, 256)
    save_file(state, tmp_path / "start.safetensors")
    assert network_from(tmp_path / "start.safetensors", backbone).projection.in_features == channels
    other: Backbone = "small" if backbone == "large" else "large"
    with pytest.raises(SettingError, match=f"it has the backbone {backbone}, --backbone says {other}"):
        network_from(tmp_path / "start.safetensors", other)


def test_contrastive_loss_by_hand() -> None:
    """Two photos at right angles, views equal: log(1 + 2 e^(-1/t)). Break: count the view itself as a negative."""
    first = unit((1.0, 0.0), (0.0, 1.0))
    value = contrastive(torch.stack([first, first]), torch.tensor([0, 1]), Queue(4))
    assert float(value) == pytest.approx(np.log(1 + 2 * np.exp(-20)), abs=1e-6)


def test_every_pair_of_three_views_counts() -> None:
    """One view of three points at the other photo, whichever it is. Break: compare with the first view alone."""
    right, wrong = unit((1.0, 0.0), (0.0, 1.0)), unit((0.0, 1.0), (0.0, 1.0))
    whole = contrastive(torch.stack([right, right, right]), torch.tensor([0, 1]), Queue(4))
    one_off = contrastive(torch.stack([right, wrong, right]), torch.tensor([0, 1]), Queue(4))
    other_off = contrastive(torch.stack([right, right, wrong]), torch.tensor([0, 1]), Queue(4))
    assert float(one_off) == pytest.approx(float(other_off), abs=1e-5)
    assert float(one_off) > float(whole) + 3


def test_earlier_views_of_the_same_photo_are_no_negatives() -> None:
    """The queue holds photo 0 from an earlier round: it pushes photo 1 away, not photo 0. Break: drop the mask."""
    queue = Queue(4)
    queue.push(unit((1.0, 0.0)), torch.tensor([0]))
    first = unit((1.0, 0.0))
    assert float(contrastive(torch.stack([first, first]), torch.tensor([0]), queue)) == pytest.approx(0, abs=1e-6)
    assert float(contrastive(torch.stack([first, first]), torch.tensor([1]), queue)) == pytest.approx(
        np.log(2), abs=1e-4
    )


def test_queue_keeps_the_newest() -> None:
    """Size 3: of four the oldest goes. Break: keep the first."""
    queue = Queue(3)
    for n in range(4):
        queue.push(unit((1.0, float(n))), torch.tensor([n]))
    items = queue.items()
    assert items is not None
    assert items[1].tolist() == [3, 2, 1]


def test_entropy_is_lower_when_others_are_farther() -> None:
    """Views of one photo may be equal. Break: leave the photo's own view among its neighbours."""
    owners = torch.tensor([0, 1, 0, 1])
    near = unit((1.0, 0.0), (1.0, 0.1), (1.0, 0.0), (1.0, 0.1))
    far = unit((1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 1.0))
    assert float(entropy(far, owners)) < float(entropy(near, owners))
    assert float(entropy(far, owners)) == pytest.approx(-np.log(np.sqrt(2)), abs=1e-5)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    """Weights, moments and progress; no pickle in the folder. Break: leave out the moments."""
    network = CopyDetector()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    views = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    loss(torch.stack([network(views), network(views)]), torch.arange(4), Queue(4)).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    save(tmp_path, network, network.state_dict(), optimiser, Progress(2, 3, 4.5))
    other = CopyDetector()
    again = torch.optim.AdamW(other.parameters(), 1e-3)
    average, at = load(tmp_path, other, again)
    assert at == Progress(2, 3, 4.5)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())
    before, after = optimiser.state_dict()["state"], again.state_dict()["state"]
    assert all(torch.equal(before[n]["exp_avg"], after[n]["exp_avg"]) for n in before)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_a_stage_learns_and_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of training from nothing: a curve with rounds in it and weights that load; the same command again adds
    nothing once the minutes are over, more minutes go on counting. Break: begin at round 0 again.
    """
    monkeypatch.setattr(stages, "NEIGHBOUR_SIDE", 64)
    recipe = Recipe(minutes=0.05, batch=64, queue=64, resolutions=((1.0, 64),), workers=0, device_views=1)
    said: list[str] = []
    result = run_stage([folder], None, tmp_path, recipe, said.append, "cpu")
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["round"] for line in curve] == list(range(1, len(curve) + 1))
    assert curve[-1]["step"] == len(curve)
    assert set(load_file(result)) == set(CopyDetector().state_dict())
    network_from(result)
    run_stage([folder], None, tmp_path, recipe, said.append, "cpu")
    assert len((tmp_path / "curve.jsonl").read_text().splitlines()) == len(curve)
    spent_s = json.loads((tmp_path / "progress.json").read_text())["seconds"]
    run_stage([folder], None, tmp_path, replace(recipe, minutes=(spent_s + 0.5) / 60), said.append, "cpu")
    later = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert later[len(curve)]["round"] == len(curve) + 1


def test_too_few_photos_and_foreign_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """A message that names the option. Break: train on what there is."""
    with pytest.raises(SettingError, match="70 photos to train on; 160 are needed"):
        run_stage([folder], None, tmp_path / "out", Recipe(), lambda _: None, "cpu")
    wrong = tmp_path / "wrong.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, wrong)
    with pytest.raises(SettingError, match=r"--from: .* does not fit"):
        network_from(wrong)
    wrong.write_bytes(b"no weights")
    with pytest.raises(SettingError, match=r"--from: .* holds no weights"):
        network_from(wrong)


def test_the_splits_are_apart() -> None:
    """200 to tune, 300 to test, 2,000 held out, no photo in two of them. Break: draw the test part anew."""
    tune, test, held_out = split(TUNE), split(TEST), split(UNSEEN)
    assert (len(tune), len(test), len(held_out)) == (200, 300, 2_000)
    assert not tune & test
    assert not (tune | test) & held_out
    pairs = [line.split() for line in (SPLITS / "hard-negatives.txt").read_text().splitlines()]
    assert len(pairs) >= 3_000
    known = {digest[:16] for digest in test | held_out}
    assert all(one in known and other in known and one != other for one, other in pairs)


def test_held_out_photos_are_not_trained_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break: leave one of the three lists out."""
    digests = {n: photo.sha256 for n, photo in enumerate(read_photos([folder]))}
    lists = {TEST: {digests[0]}, TUNE: {digests[1]}, UNSEEN: {digests[2]}}
    monkeypatch.setattr("models.photos.split", lambda name: frozenset(lists[name]))
    with pytest.raises(SettingError, match="67 photos to train on"):
        run_stage([folder], None, tmp_path, Recipe(batch=70), lambda _: None, "cpu")
