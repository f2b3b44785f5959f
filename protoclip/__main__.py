"""`python -m protoclip`, the form that launchers such as torchrun use."""

from .cli import main

if __name__ == "__main__":
    main()
