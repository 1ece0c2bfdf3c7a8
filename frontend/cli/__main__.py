"""``python -m frontend.cli``: the same as the console script ``tmpnb``."""

from frontend.cli import main

if __name__ == "__main__":
    main()
