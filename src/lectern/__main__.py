"""``python -m lectern``, the command `lectern`."""

from lectern.cli import main

main()
