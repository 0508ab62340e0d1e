"""What an exchange of digits costs beside an all-reduce of one float64, by a model of published figures.

The model is recursive doubling: ceil(log2(P)) steps of a + b * bytes. a and b follow from the all-reduces of
8 and 4096 bytes over 128 hosts in R. Graham et al., "Scalable Hierarchical Aggregation Protocol (SHArP)",
COMHPC 2016: 6.01 and 46.93 us.
"""

from __future__ import annotations

import math

import mseloss

HOSTS, SMALL, LARGE = 128, (8, 6.01), (4096, 46.93)  # bytes, us
RANKS = (8, 64, 512, 4096, 32_768, 100_000)


def main():
    steps = math.log2(HOSTS)
    per_byte = (LARGE[1] - SMALL[1]) / (LARGE[0] - SMALL[0]) / steps
    latency = SMALL[1] / steps - SMALL[0] * per_byte
    sizes = [8] + [mseloss.PartialSum().digits(d).nbytes for d in ("float32", "float64")]
    print(f"{latency:.2f} us and {1e3 * per_byte:.2f} ns a byte for each step\n")
    print(
        "| ranks | steps | float64, 8 B | " + " | ".join(f"digits, {n} B" for n in sizes[1:]),
        end=" |",
    )
    print(" sent by a rank | gathered instead |\n|" + "---:|" * (len(sizes) + 4))
    for ranks in RANKS:
        doublings = math.ceil(math.log2(ranks))
        times = [doublings * (latency + per_byte * n) for n in sizes]
        sent = [amount(doublings * n) for n in sizes[1:]]
        gathered = [amount(ranks * n) for n in sizes[1:]]
        cells = [f"{ranks:,}", str(doublings), *(f"{t:.0f} us" for t in times)]
        print("| " + " | ".join([*cells, " / ".join(sent), " / ".join(gathered)]) + " |")


def amount(size):
    return f"{size / 1e3:.1f} KB" if size < 1e6 else f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
