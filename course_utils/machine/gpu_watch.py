"""`watch_gpus()`: a thread that reads the GPUs now and then while a block of code runs, and a plot of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib.style

from course_utils.figures.machine_map.drawing import MachineMap
from course_utils.figures.style import STYLE_FILE, device_color

from .gpu_table import Gpu, GpuStatus, gpu_status

INTERVAL = 0.2  # s; NVIDIA's utilisation is itself a mean over 1/6 s to 1 s
GOODBYE = 10.0  # s to wait for a reader that hangs; the thread never keeps Python from ending
MARKS = "osD^vP*X"
MEMORY, UTILIZATION = "memory.used", "utilization.gpu"
LABEL = "GPU {index}, {name}"


@dataclass(eq=False)
class GpuWatch:
    """Watch the GPUs while a block runs: `with watch_gpus() as watch: ...`, then `watch.draw()`.

    Real GPUs are watched all, virtual ones where they are on; of these only the memory is known. The block's
    own errors pass through.

    Attributes:
        interval: seconds between two readings, which themselves take about 0.1 s for each real GPU.
        read: takes one reading.
        samples: the readings so far: seconds since the block began -> the GPUs (see `gpu_table`).
        problem: why reading ended early, in one line; "" if it did not.
        source: who was asked last, as in `GpuStatus`.
    """

    interval: float = INTERVAL
    read: Callable[[], GpuStatus] = gpu_status
    samples: dict[float, list[Gpu]] = field(default_factory=dict, init=False)
    problem: str = field(default="", init=False)
    source: str = field(default="nobody", init=False)

    def __enter__(self) -> "GpuWatch":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch_gpus", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(GOODBYE)

    def _run(self) -> None:
        """Read at once, then every `interval` seconds, and once more at the end."""
        start, ended = time.monotonic(), False
        try:
            while not (ended or self.problem):
                ended = bool(self.samples) and self._stop.wait(self.interval)
                status = self.read()
                self.source = status.source
                if status.gpus:
                    self.samples[time.monotonic() - start] = status.gpus
                else:
                    self.problem = "no GPU to watch"
        except Exception as error:  # whatever a reader does, the work that is watched goes on
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]

    def series(self, index: int, key: str) -> dict[float, int]:
        """Return one GPU's `key`, such as "memory.used", by the seconds at which it was known."""
        return {
            seconds: gpu[key]
            for seconds, gpus in self.samples.items()
            for gpu in gpus
            if gpu["index"] == index and gpu[key] is not None
        }

    def __repr__(self) -> str:
        if not self.samples:
            return f"nothing was read: {self.problem or 'the block has not run yet'}"
        lines = [f"{len(self.samples)} readings in {max(self.samples):.1f} s, asked: {self.source}"]
        for gpu in self._shown():
            parts = []
            for key, name, unit in ((MEMORY, "memory", "MiB"), (UTILIZATION, "utilisation", "%")):
                values = self.series(gpu["index"], key).values()
                parts.append(f"{name} {min(values)} to {max(values)} {unit}" if values else f"{name} unknown")
            lines.append(f"{LABEL.format_map(gpu)}: {', '.join(parts)}")
        return "\n".join([*lines, *([f"reading ended early: {self.problem}"] if self.problem else [])])

    def _shown(self) -> list[Gpu]:
        """The GPUs of the first reading that were busy at any time, or else the first one."""
        gpus, keys = next(iter(self.samples.values())), (MEMORY, UTILIZATION)
        busy = [gpu for gpu in gpus if any(any(self.series(gpu["index"], key).values()) for key in keys)]
        return busy or gpus[:1]

    def draw(self) -> MachineMap:
        """Return a figure: memory in MiB over seconds, below it utilisation in percent where known."""
        figure = MachineMap(str(self), figsize=(10, 5.4), layout="constrained")
        if not self.samples:
            figure.text(0.5, 0.5, str(self), ha="center", va="center", wrap=True)
            return figure
        with matplotlib.style.context(STYLE_FILE):
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            upper.set(title="GPUs while the cell ran", ylabel="memory in use, MiB")
            lower.set(xlabel="seconds", ylabel="utilisation, %", ylim=(-5, 105))
            for gpu in self._shown():
                number, look = gpu["index"], {"drawstyle": "steps-post", "markersize": 5}
                # colour and mark both tell the GPUs apart
                look |= {"color": device_color(number), "marker": MARKS[number % len(MARKS)]}
                for axes, key in ((upper, MEMORY), (lower, UTILIZATION)):
                    if values := self.series(number, key):
                        axes.plot([*values], [*values.values()], label=LABEL.format_map(gpu), **look)
            upper.set_ylim(bottom=0)
            upper.legend(loc="upper left", bbox_to_anchor=(1, 1))
            if not lower.lines:
                lower.text(0.5, 0.5, "unknown", transform=lower.transAxes, ha="center", va="center")
        return figure


watch_gpus = GpuWatch  # the name it has in a `with` statement
