"""`python -m chaos [--runs N] [--seconds S] [--seed N] [--engine NAME] [--bug NAME]`: kills until time is over, waits for rest, judges."""

import argparse
import asyncio
import os
import random
import sys

from chaos import teams
from chaos.bugs import BUGS
from chaos.points import POINTS
from chaos.storm import Plan, storm


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=90.0, help="of killing")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(2**31)))
    parser.add_argument("--bug", choices=BUGS, help="a mistake made on purpose: the test must fail")
    engines = (teams.STEPS, *teams.MODES)
    parser.add_argument(
        "--engine", choices=engines, default=teams.STEPS, help="teams on a real engine, instead of steps without one"
    )
    parser.add_argument("--points", nargs="*", default=sorted(POINTS), choices=sorted(POINTS))
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for everything to come to rest")
    given = parser.parse_args()
    plan = Plan(given.runs, given.seconds, given.seed, given.points, given.bug, given.patience, given.engine)
    verdict = asyncio.run(storm(plan))
    print(f"seed {given.seed}{f', with the bug {given.bug}' if given.bug else ''}\n{verdict}")
    print("holds" if verdict.holds else "DOES NOT HOLD")
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
