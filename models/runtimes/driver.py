"""Is there an NVIDIA GPU? Asked of the driver itself: importing torch to learn it takes seconds and 200 MB."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stream.errors import PassedOver, RuntimeUnusable

LIBRARY = "libcuda.so.1"
# A text such as 580.65.06; not there in every container.
VERSION_FILE = Path("/sys/module/nvidia/version")


@dataclass(frozen=True, slots=True)
class Driver:
    """`cuda` is the newest CUDA the driver serves, as 1000 x major + 10 x minor; `version` names the driver."""

    cuda: int
    version: str

    def require(self, built_for: str | None) -> None:
        """Refuse a driver that is older than the CUDA that a library was built for.

        A driver serves every minor version of its major one.

        Args:
            built_for: e.g. 13.0; None: the library was built without CUDA.

        Raises:
            RuntimeUnusable: with what to do.
        """
        if built_for is None:
            raise RuntimeUnusable(
                PassedOver.BUILT_WITHOUT_CUDA, "the installed torch was built without CUDA; install a build with it"
            )
        major = self.cuda // 1000
        if major < int(built_for.partition(".")[0]):
            raise RuntimeUnusable(
                PassedOver.DRIVER_TOO_OLD,
                f"the NVIDIA driver {self.version} serves CUDA {major} at most and torch was built for {built_for}; "
                "install a newer driver or an older torch",
            )


def find_driver(load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> Driver:
    """The driver, once it has shown a GPU. Heeds CUDA_VISIBLE_DEVICES.

    Raises:
        RuntimeUnusable: no driver, or no GPU that this process may use.
    """
    try:
        library = load(LIBRARY)
    except OSError:
        raise RuntimeUnusable(PassedOver.NO_GPU, f"no NVIDIA driver is installed here ({LIBRARY})") from None
    count, cuda = ctypes.c_int(0), ctypes.c_int(0)
    for call, arguments in (
        ("cuInit", (0,)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDriverGetVersion", (ctypes.byref(cuda),)),
    ):
        code = getattr(library, call)(*arguments)
        if code:
            raise RuntimeUnusable(PassedOver.NO_GPU, f"the NVIDIA driver shows no GPU ({call} answered {code})")
    if not count.value:
        raise RuntimeUnusable(PassedOver.NO_GPU, "the NVIDIA driver shows no GPU")
    return Driver(cuda.value, _version(cuda.value))


def _version(cuda: int) -> str:
    try:
        return VERSION_FILE.read_text().strip()
    except OSError:
        return f"of CUDA {cuda // 1000}.{cuda % 1000 // 10}"
