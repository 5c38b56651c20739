"""`python -m ranp`, which is how `torchrun -m ranp` begins: the program that the package was installed with."""

from importlib.metadata import entry_points

if __name__ == "__main__":
    (program,) = entry_points(group="console_scripts", name="ranp")
    program.load()()
