"""Compares two result files and lists the cases that changed by more than the noise.

    compare.py BEFORE AFTER [--all]

A case changed if its medians differ by more than 5 % and its interquartile ranges do not overlap. If both
files have a ceiling for it, the ratios to the ceiling are compared, so that results of different machines, or
of one machine at different memory speeds, are comparable. Exit status 1 if a case became slower.
"""

import argparse

from result_file import ceiling, load

MIN_CHANGE = 0.05


def quartiles(case: dict, unit: float) -> tuple[float, float, float]:
    t = case["seconds"]["mseloss"]
    return t["median"] / unit, t["q1"] / unit, t["q3"] / unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--all", action="store_true", help="list unchanged cases too")
    arguments = parser.parse_args()
    before, after = load(arguments.before), load(arguments.after)
    for result in (before, after):
        cpu, form, start = result["machine"]["cpu"], result["form"], result["start"]
        print(f"{result['commit'][:10]}  {cpu}, {form}, {start}")

    def key(case: dict) -> tuple:  # quick and full runs have other sizes under the same identifiers
        return case["group"], case["id"], case.get("n")

    old_cases = {key(c): c for c in before["cases"] if "seconds" in c}
    slower = faster = same = 0
    for case in after["cases"]:
        old = old_cases.pop(key(case), None)
        if old is None or "seconds" not in case:
            continue
        units = ceiling(old), ceiling(case)
        to_ceiling = None not in units
        m0, low0, high0 = quartiles(old, units[0] if to_ceiling else 1)
        m1, low1, high1 = quartiles(case, units[1] if to_ceiling else 1)
        changed = (low1 > high0 or high1 < low0) and abs(m1 / m0 - 1) > MIN_CHANGE
        slower += changed and m1 > m0
        faster += changed and m1 < m0
        same += not changed
        if changed or arguments.all:
            verdict = "" if not changed else "slower" if m1 > m0 else "faster"
            if to_ceiling:
                numbers = f"{1 / m0:6.2f} -> {1 / m1:6.2f} of the ceiling"
            else:
                numbers = f"{m0 * 1e6:10.2f} -> {m1 * 1e6:10.2f} us"
            print(f"{case['id']:44} {numbers}  {m0 / m1:5.2f}x  {verdict}")
    print(
        f"{faster} faster, {slower} slower, {same} unchanged within noise, {len(old_cases)} only in BEFORE"
    )
    return int(slower > 0)


if __name__ == "__main__":
    raise SystemExit(main())
