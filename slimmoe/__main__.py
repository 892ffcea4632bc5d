"""``python -m slimmoe`` is the command."""

from slimmoe.cli import main

main()
