"""What it costs that the ranks agree at the end of each step on whether a signal has come to one of them.

    python -m tests.benchmarks.preemption_cost

Two processes on this machine, by gloo, which do nothing else; and one process, which has nothing to agree on.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from callbacks.preemption import agree

STEPS = 2000


def measure(rank: int, ranks: int, port: int) -> None:
    torch.set_num_threads(1)
    trainer = SimpleNamespace(world_size=ranks, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        agree(trainer, 0)  # type: ignore[arg-type]
        times.append(time.perf_counter() - start)
    if rank == 0:
        median, slow = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"{ranks} rank{'s' * (ranks > 1)}: {median * 1e3:.4f} ms a step (median), {slow * 1e3:.4f} ms (95 %)")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    measure(0, 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.spawn(measure, args=(2, port), nprocs=2)  # type: ignore[no-untyped-call]
