"""`watch_gpus()`: a thread that reads the GPUs now and then while a block of code runs, and a plot of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes

from course_utils.figures.machine_map.drawing import WHITE, MachineMap
from course_utils.figures.style import STYLE_FILE, device_color

from .gpu_table import GpuStatus, gpu_status

INTERVAL = 0.2  # s; NVIDIA's utilisation is itself a mean over 1/6 s to 1 s
GOODBYE = 10.0  # s to wait for a reader that hangs; the thread never keeps Python from ending
MARKS = "osD^vP*X"
MEMORY, UTILIZATION = "memory.used", "utilization.gpu"


@dataclass(frozen=True)
class Sample:
    """One reading: seconds since the watch began, and gpustat's dictionary of each GPU (see `gpu_table`)."""

    seconds: float
    gpus: list[dict[str, Any]]


class GpuWatch:
    """Reads the GPUs in a thread while a `with` block runs. The block's own errors pass through.

    Attributes:
        samples: the readings so far.
        problem: why reading ended early, in one line; "" if it did not.
        source: who was asked last, as in `GpuStatus`.
    """

    def __init__(
        self,
        interval: float = INTERVAL,
        *,
        read: Callable[[], GpuStatus] = gpu_status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.samples: list[Sample] = []
        self.problem = ""
        self.source = "nobody"
        self._interval, self._read, self._clock = interval, read, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch_gpus", daemon=True)

    def __enter__(self) -> "GpuWatch":
        self._start = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(GOODBYE)

    def _run(self) -> None:
        """Read at once, then every `interval` seconds, and once more at the end."""
        while self._sample() and not self._stop.wait(self._interval):
            pass
        if not self.problem:
            self._sample()

    def _sample(self) -> bool:
        """Take one reading; returns False, and says why, where there is none."""
        try:
            status = self._read()
        except Exception as error:  # whatever a reader does, the work that is watched goes on
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
            return False
        self.source = status.source
        if not status.gpus:
            self.problem = "no GPU to watch"
            return False
        self.samples.append(Sample(self._clock() - self._start, status.gpus))
        return True

    def series(self, index: int, key: str) -> tuple[list[float], list[int]]:
        """Return the seconds and the values of one GPU's `key`, such as "memory.used", where it was known."""
        known = [
            (sample.seconds, gpu[key])
            for sample in self.samples
            for gpu in sample.gpus
            if gpu["index"] == index and gpu[key] is not None
        ]
        return [seconds for seconds, _ in known], [value for _, value in known]

    def __str__(self) -> str:
        if not self.samples:
            return f"nothing was read: {self.problem or 'the block has not run yet'}"
        lines = [f"{len(self.samples)} readings in {self.samples[-1].seconds:.1f} s, asked: {self.source}"]
        lines += [self._summary(gpu) for gpu in self._shown()]
        return "\n".join([*lines, *([f"reading ended early: {self.problem}"] if self.problem else [])])

    __repr__ = __str__

    def _summary(self, gpu: dict[str, Any]) -> str:
        parts = []
        for key, name, unit in ((MEMORY, "memory", "MiB"), (UTILIZATION, "utilisation", "%")):
            values = self.series(gpu["index"], key)[1]
            parts.append(f"{name} {min(values)} to {max(values)} {unit}" if values else f"{name} unknown")
        return f"{_label(gpu)}: {', '.join(parts)}"

    def _shown(self) -> list[dict[str, Any]]:
        """The GPUs of the first reading that were busy at any time, or else the first one."""
        gpus = self.samples[0].gpus
        busy = [
            gpu
            for gpu in gpus
            if any(any(self.series(gpu["index"], key)[1]) for key in (MEMORY, UTILIZATION))
        ]
        return busy or gpus[:1]

    def draw(self) -> MachineMap:
        """Return a figure: memory in MiB over seconds, below it utilisation in percent where known."""
        figure = MachineMap(figsize=(10, 5.4), dpi=100, facecolor=WHITE, layout="constrained")
        figure.description = str(self)
        with matplotlib.style.context(STYLE_FILE):
            if not self.samples:
                figure.text(0.5, 0.5, str(self), ha="center", va="center", wrap=True)
                return figure
            panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            self._draw(panels[0], MEMORY)
            self._draw(panels[1], UTILIZATION)
            panels[0].set(title="GPUs while the cell ran", ylabel="memory in use, MiB")
            panels[0].set_ylim(bottom=0)
            panels[1].set(xlabel="seconds", ylabel="utilisation, %", ylim=(-5, 105))
            panels[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
            if not panels[1].lines:
                panels[1].text(0.5, 0.5, "unknown", transform=panels[1].transAxes, ha="center", va="center")
        return figure

    def _draw(self, axes: Axes, key: str) -> None:
        """Draw one line per GPU; colour and mark both tell them apart."""
        for gpu in self._shown():
            index = gpu["index"]
            seconds, values = self.series(index, key)
            if values:
                look = {"color": device_color(index), "marker": MARKS[index % len(MARKS)], "markersize": 5}
                axes.plot(seconds, values, drawstyle="steps-post", label=_label(gpu), **look)


def _label(gpu: dict[str, Any]) -> str:
    return f"GPU {gpu['index']}, {gpu['name']}"


def watch_gpus(interval: float = INTERVAL) -> GpuWatch:
    """Watch the GPUs while a block runs: `with watch_gpus() as watch: ...`, then `watch.draw()`.

    Real GPUs are watched all, virtual ones where they are on; of these only the memory is known.

    Args:
        interval: seconds between two readings, which themselves take about 0.1 s for each real GPU.
    """
    return GpuWatch(interval)
