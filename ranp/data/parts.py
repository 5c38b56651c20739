"""The parts of shapes: the 16 categories and 50 parts of ShapeNet part (Yi et al., SIGGRAPH Asia 2016), in its order.

The generated shapes have the same categories, parts and numbers.
"""

from itertools import accumulate

CATEGORIES = {
    "Airplane": ("02691156", ("body", "wing", "tail", "engine")),
    "Bag": ("02773838", ("handle", "body")),
    "Cap": ("02954340", ("panels", "peak")),
    "Car": ("02958343", ("roof", "hood", "wheel", "body")),
    "Chair": ("03001627", ("back", "seat", "leg", "arm")),
    "Earphone": ("03261776", ("earphone", "headband", "wire")),
    "Guitar": ("03467517", ("head", "neck", "body")),
    "Knife": ("03624134", ("blade", "handle")),
    "Lamp": ("03636649", ("base", "shade", "bulb", "tube")),
    "Laptop": ("03642806", ("keyboard", "screen")),
    "Motorbike": ("03790512", ("gas tank", "seat", "wheel", "handle", "light", "frame")),
    "Mug": ("03797390", ("handle", "cup")),
    "Pistol": ("03948459", ("barrel", "handle", "trigger")),
    "Rocket": ("04099429", ("body", "fin", "nose")),
    "Skateboard": ("04225987", ("wheel", "deck", "belt")),
    "Table": ("04379243", ("top", "leg", "support")),
}
"""Of each category, by the order of its parts' numbers: the WordNet offset that its folder is called, and its parts.

The numbers are the published ones. The benchmark gives the parts no names that all copies of it agree on: these are
for people to read.
"""

_COUNTS = [len(parts) for _, parts in CATEGORIES.values()]
FIRST = dict(zip(CATEGORIES, accumulate(_COUNTS, initial=0), strict=False))
"""The number of the first part of each category, from 0: part k of it, counted from 1, is that plus k - 1."""

PARTS = sum(_COUNTS)
