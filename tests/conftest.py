"""Property tests draw the same examples in every run; `make random` is where others are tried."""

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
