"""atheris over the decoder: `python -m tests.fuzz.fuzz_decode CORPUS -seed=1 -max_total_time=60`.

It sees Python code only: branches inside of libjpeg, libpng and libwebp guide nothing, and a crash of theirs ends it.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["PIL", "stream.intake", "models.preprocess", "models.perceptual"]):
    from stream.intake.decode import configure_pillow
    from tests.fuzz import targets

if __name__ == "__main__":
    configure_pillow(targets.LIMITS)
    atheris.Setup(sys.argv, targets.picture)
    atheris.Fuzz()
