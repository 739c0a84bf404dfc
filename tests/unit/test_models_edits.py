"""Promise: an edit is a seeded function from one RGB picture to another."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import numpy as np
import pytest
from PIL import Image

from models.edits import EDITS


@pytest.mark.parametrize("size", [(320, 200), (200, 320), (240, 240), (40, 30)])
@pytest.mark.parametrize("name", EDITS)
def test_edit_is_seeded_and_leaves_the_picture_alone(name: str, size: tuple[int, int]) -> None:
    """Same seed, same picture; the input is not painted on; small and square pictures work too.

    Break: draw on `image` itself in `_sticker`, or take the module's `random` in any edit.
    """
    values = np.random.default_rng(1).integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    image = Image.fromarray(values)
    one, other = (EDITS[name](image, Random(5)) for _ in range(2))
    assert one.mode == "RGB"
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != image.tobytes()
    assert np.array_equal(np.asarray(image), values)


def test_demo_needs_no_torch() -> None:
    """The edits load Pillow alone. Break: `import torch` in any module they import."""
    code = "import sys, models.edits; print(*sorted({'torch', 'openvino', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
