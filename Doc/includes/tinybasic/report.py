"""Show what sys.monitoring and cProfile see of a BASIC program."""

import os

import listing
import profile_subs

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                       "programs", "sieve.bas")


def main():
    print("sieve.bas: how often each line ran, from sys.monitoring\n")
    listing.main([PROGRAM])
    print("\nsieve.bas: its subroutines, from cProfile\n")
    profile_subs.main([PROGRAM])


if __name__ == "__main__":
    main()
