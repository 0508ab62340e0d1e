"""Two result files side by side: what changed by more than the noise.

    compare.py BEFORE AFTER [--all]

A case changed when the medians differ by more than 5 % and the quartiles do not overlap. Where both files
have a ceiling for it, the ratio to the ceiling is compared, so that two machines, or one machine in two
moods, can be set side by side. Exit status 1 when a case became slower.
"""

import argparse

import result as results

LEAST = 0.05


def interval(case: dict, best: float | None) -> tuple[float, float, float]:
    """Median and quartiles of seconds, in units of the ceiling where there is one."""
    t, unit = case["seconds"]["mseloss"], best or 1.0
    return t["median"] / unit, t["q1"] / unit, t["q3"] / unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--all", action="store_true", help="unchanged cases too")
    arguments = parser.parse_args()
    before, after = results.load(arguments.before), results.load(arguments.after)
    for result in (before, after):
        print(
            f"{result['commit'][:10]}  {result['machine']['cpu']}, {result['form']}, {result['start']}"
        )
    old = {(c["id"], c.get("n")): c for c in before["cases"] if "seconds" in c}
    slower = faster = same = 0
    for case in after["cases"]:
        other = old.pop((case["id"], case.get("n")), None)
        if other is None or "seconds" not in case:
            continue
        ours, theirs = results.ceiling(case), results.ceiling(other)
        both = ours is not None and theirs is not None
        m0, low0, high0 = interval(other, theirs if both else None)
        m1, low1, high1 = interval(case, ours if both else None)
        apart = low1 > high0 or high1 < low0
        changed = apart and abs(m1 / m0 - 1) > LEAST
        slower += changed and m1 > m0
        faster += changed and m1 < m0
        same += not changed
        if changed or arguments.all:
            word = "" if not changed else "slower" if m1 > m0 else "faster"
            if both:
                numbers = f"{1 / m0:6.2f} -> {1 / m1:6.2f} of the ceiling"
            else:
                numbers = f"{m0 * 1e6:10.2f} -> {m1 * 1e6:10.2f} us"
            print(f"{case['id']:44} {numbers}  {m0 / m1:5.2f}x  {word}")
    print(
        f"{faster} faster, {slower} slower, {same} the same within noise, {len(old)} only in the first"
    )
    return int(slower > 0)


if __name__ == "__main__":
    raise SystemExit(main())
