"""``python -m recurate`` is the command ``recurate``."""

from recurate.cli import main

if __name__ == "__main__":
    main()
