"""`python -m protoclip`, as launchers of several ranks want it."""

from .cli import main

if __name__ == "__main__":
    main()
