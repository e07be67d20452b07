"""Many bad calls, and the share that is refused clearly: `python -m tests.edges --cases 4000 --seed 0`."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

from tests.edges.areas import AREAS, make_case
from tests.edges.clear import why_unclear

GOAL = 0.995


def main() -> int:
    """Print the share of each area and every case that is not clear; status 1 below the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4000, help="over all areas together")
    parser.add_argument("--seed", type=int, default=0, help="case i of an area is make_case(area, seed + i)")
    parser.add_argument("--areas", nargs="+", default=list(AREAS), choices=AREAS)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, resource.RLIM_INFINITY))
    each, clear, began = max(1, options.cases // len(options.areas)), 0, time.process_time()
    print(f"seeds {options.seed} to {options.seed + each - 1} of each area")
    for area in options.areas:
        unclear = []
        for seed in range(options.seed, options.seed + each):
            case = make_case(area, seed)
            why = why_unclear(case)
            if why:
                unclear.append(f"    {area} {seed}: {case.title}: {why}"[:400].replace("\n", " "))
        clear += each - len(unclear)
        print(f"{area:12s} {each - len(unclear):6d} of {each} clear, {(each - len(unclear)) / each:.2%}")
        print("".join(f"{line}\n" for line in unclear), end="", flush=True)
    share = clear / (each * len(options.areas))
    seconds = time.process_time() - began
    print(f"all {clear} of {each * len(options.areas)} clear, {share:.2%}; {seconds:.0f} s of processor")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
