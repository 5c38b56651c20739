"""The channel graph: which channels of which parameters live and die together."""
