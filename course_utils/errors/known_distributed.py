"""Errors of training with several processes: how to know each one, what it means, what to do.

The texts are PyTorch's, 2.11 to 2.15.
"""

from .known_errors import Known

_TORCHRUN = "torchrun --standalone --nproc-per-node 2 script.py"

# nccl's own words before it aborts the process: up to 2.14, and from 2.15 on
NCCL_TIMEOUT = r"Watchdog caught collective operation timeout|timeout watchdog detected operation timeout"

DISTRIBUTED = [
    Known(  # the check of the course's own scripts
        r"RuntimeError: (?P<how>The processes differ: [^\n]*\})",
        "{how}.",
        "Install the same versions on every machine, and give all processes the same checkpoint.",
    ),
    Known(
        r"EADDRINUSE|[Aa]ddress already in use",
        "The port where the processes were to meet is taken (EADDRINUSE): by another program, or by an "
        "earlier run of yours.",
        "Take another port (--master-port or --rdzv-endpoint); on one machine --standalone finds a free one.",
    ),
    Known(
        r"waiting for clients\. (?P<came>\d+)/(?P<wanted>\d+) clients joined",
        "Only {came} of {wanted} came to the meeting point in time.",
        "Start the same command on every machine, each with its own --node-rank and all with the same "
        "--nnodes, --master-addr and --master-port.",
    ),
    Known(
        r"RendezvousTimeoutError|RendezvousConnectionError",
        "The machines that --nnodes counts did not meet in time.",
        "Start the same command on every machine, with the same --rdzv-endpoint and --rdzv-id; the machine "
        "that the endpoint names must run one, and let the others reach its port.",
    ),
    Known(
        rf"Timed out waiting \d+ms for \w+ operation to complete|{NCCL_TIMEOUT}",
        "A process waited for the others, and at least one did not come in time.",
        "Every rank must call the same collectives in the same order: look for one inside `if rank == 0`, "
        "for loops of different lengths, and for a rank that stopped. Where one has more to do, give "
        "init_process_group a larger timeout=.",
    ),
    Known(
        r"pair\.cc.*(?:Connection (?:closed|reset) by peer|Connection refused|Broken pipe)|"
        r"Connection (?:closed|reset) by peer",
        "Another process of the group is gone; this one only noticed it.",
        "Look for the first error, in what the other ranks wrote.",
    ),
    Known(
        r"Default process group has not been initialized",
        "A collective was called in a process that belongs to no group.",
        f"Call dist.init_process_group() first, in a script that is started by: {_TORCHRUN}",
    ),
    Known(
        r"environment variable (?P<name>\w+) expected, but not set",
        "The process does not know its place in the group: {name} is not set.",
        f"Start the script by torchrun, which sets it: {_TORCHRUN}",
    ),
    Known(
        r"initialize the default process group twice",
        "This process has a group already; in a notebook, from a cell run before.",
        "Call dist.destroy_process_group() first, or ask dist.is_initialized().",
    ),
    Known(
        r"ProcessGroupNCCL is only supported with GPUs, no GPUs found",
        "NCCL connects GPUs, and this process sees none.",
        'On a CPU: dist.init_process_group("gloo").',
    ),
    Known(
        r"Duplicate GPU detected",
        "Two processes took the same GPU.",
        'Give each its own: torch.cuda.set_device(int(os.environ["LOCAL_RANK"])), before the group begins.',
    ),
    Known(
        r"Expected to have finished reduction in the prior iteration",
        "DistributedDataParallel waits for the gradient of every parameter, and a parameter got none: it had "
        "no part in the loss.",
        "Use all outputs in the loss, freeze what is not used with requires_grad_(False) before you wrap the "
        "model, or write DistributedDataParallel(model, find_unused_parameters=True).",
    ),
    Known(
        r"Can't get attribute '(?P<name>\w+)' on <module '__main__'",
        "New processes cannot see {name}: they start empty and cannot import a notebook.",
        f"Write {{name}} into a file, and start that: {_TORCHRUN}",
    ),
    Known(
        r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)",
        "The computer has no memory left.",
        "Each process holds its own model and data: take fewer processes or smaller batches.",
    ),
    Known(
        r"C(?:uda|UDA) is not available",
        "A GPU was asked for, and PyTorch finds none here.",
        "Without GPUs give torchrun a number: --nproc-per-node 2.",
    ),
]
