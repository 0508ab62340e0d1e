"""Numbers as text."""


def percent(part, whole):
    if whole == 0 or part == 0:
        return "0 %"
    share = 100 * part / whole
    if part != whole and share > 99:
        return f"{share:.6g} %"
    return f"{share:.3g} %" if share >= 10 else f"{share:.2g} %"


def ordinal(n):
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
