"""Ranks of the exercises' process group: `python -m course_utils.exercises.judging.rank_worker [FD FD ...]`.

A rank reads frames (a length of 8 bytes, then pickled bytes) from one pipe and writes frames to another, both
for `rank_pool`. When the input ends, the process does: nothing outlives the notebook's kernel. Without
arguments this process is one rank, at standard input and output. With pairs of descriptors (Linux only) it
imports what ranks need, 3 s of work, and forks one rank for each pair.
"""

import contextlib
import io
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from datetime import timedelta
from typing import Any, BinaryIO

LENGTH = struct.Struct("!Q")
MOST_PRINTED = 2_000  # characters


def read_frame(stream: BinaryIO) -> Any:
    """Return the next message; raises EOFError where there is none."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(LENGTH.unpack(head)[0]))


def write_frame(stream: BinaryIO, message: Any) -> None:
    """Send a message; raises OSError where nobody reads."""
    data = pickle.dumps(message)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


class Unanswered(BaseException):
    """Raised in a collective to which others do not come; no Exception, so answers do not catch it."""


class Rank:
    """This process's end of the pipes."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.messages: queue.Queue[Any] = queue.Queue()
        self.unanswered = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Take messages, and end the process with the one that sends them, whatever it does just now."""
        try:
            while True:
                self.messages.put(read_frame(self.incoming))
        except (EOFError, OSError):
            os._exit(0)

    def exchange(self, what: tuple[Any, ...], given: Any) -> list[Any]:
        """Say what this rank has come to, and return what every rank brings, by rank."""
        write_frame(self.outgoing, ("meet", what, pickle.dumps(given)))
        every = self.messages.get()
        if every is None:
            self.unanswered = True
            raise Unanswered
        return [pickle.loads(data) for data in every]

    def hold(self) -> None:
        """Wait until every other rank waits in a collective or has come to the end."""
        write_frame(self.outgoing, ("hold",))
        self.messages.get()

    def serve(self) -> None:
        """Run what is asked for, one after the other, until the process is ended."""
        write_frame(self.outgoing, ("ready", os.getpid()))
        while True:
            rank, world, data = self.messages.get()
            write_frame(self.outgoing, ("done", self.run(rank, world, data)))

    def run(self, rank: int, world: int, data: bytes) -> dict[str, Any]:
        """Run one trial as one rank; return what came of it."""
        import torch.distributed as dist

        from .carrying import unpack
        from .rank_group import JudgedGroup

        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        group = JudgedGroup(rank, world, self.exchange, self.hold)
        if "EXERCISE" not in dist.Backend._plugins:
            dist.Backend.register_backend("exercise", lambda *_: self.group, devices=["cpu"])
        self.group, self.unanswered = group, False
        report: dict[str, Any] = {"status": "returned", "value": None}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                store, limit = dist.HashStore(), timedelta(seconds=60)
                dist.init_process_group("exercise", store=store, rank=rank, world_size=world, timeout=limit)
                trial, answer, given = unpack(data)
                report["value"] = trial(answer, *given)
            except BaseException as error:  # also SystemExit: a rank that wants to leave
                report |= {"status": "raised", **_told(error)}
        if dist.is_initialized():
            dist.destroy_process_group()
        if self.unanswered:
            report["status"] = "unanswered"
        return report | {"calls": group.calls, "printed": printed.getvalue()[:MOST_PRINTED]}


def _told(error: BaseException) -> dict[str, Any]:
    """Return an error as text, and the places that it went through."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    text = (str(error).splitlines() or [""])[0][:200]
    return {"error": f"{type(error).__name__}: {text}", "places": places}


def _warm_up() -> None:
    """Import all that a trial needs: the first DDP model imports a thousand modules."""
    import torch.distributed as dist
    from torch import nn

    from . import carrying  # noqa: F401
    from .rank_group import JudgedGroup

    group = JudgedGroup(0, 1, lambda what, given: [given], lambda: None)
    dist.Backend.register_backend("alone", lambda *_: group, devices=["cpu"])
    dist.init_process_group("alone", store=dist.HashStore(), rank=0, world_size=1)
    nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    dist.destroy_process_group()


def _fork_ranks(descriptors: list[int]) -> None:
    """Become the parent of a rank for each pair of descriptors, and stay until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    for pair in zip(descriptors[::2], descriptors[1::2], strict=True):
        if os.fork() == 0:
            for other in {0, *descriptors} - set(pair):
                os.close(other)
            Rank(os.fdopen(pair[0], "rb"), os.fdopen(pair[1], "wb")).serve()
    for descriptor in descriptors:
        os.close(descriptor)
    sys.stdin.buffer.read()
    with contextlib.suppress(ChildProcessError):  # raised when the last one has ended
        os.wait()


def main() -> None:
    """Serve; what answers print does not get into the pipe."""
    sys.path[:] = read_frame(sys.stdin.buffer)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the notebook's kernel, which ends us if need be
    if len(sys.argv) > 1:
        _warm_up()
        _fork_ranks([int(descriptor) for descriptor in sys.argv[1:]])
        return
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _warm_up()
    Rank(sys.stdin.buffer, outgoing).serve()


if __name__ == "__main__":
    main()
