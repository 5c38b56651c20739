"""The verbs of adapters in words: what `ranp fuse` and `ranp refine` ask for, checked and carried out."""
