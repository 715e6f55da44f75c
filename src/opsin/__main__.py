"""`python -m opsin`."""

from opsin.cli import run

if __name__ == "__main__":
    run()
