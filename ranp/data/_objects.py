"""The sixteen objects of `shapes`, one for each category of ShapeNet part: solids of random proportions.

An object is about two units long; how large it is does not matter. What it is made of is listed in the order that it is
painted in.
"""

from collections.abc import Callable

import numpy as np

from ranp.data._solids import Array, Solid, ball, box, cone, dome, ring, turned

Object = Callable[[np.random.Generator], list[Solid]]

ALONG_X, ALONG_Z = turned(2, 90), turned(0, 90)  # of what stands upright: its y axis is x, or z


def corners(x: float, z: float) -> list[tuple[float, float]]:
    """Return four places around the middle."""
    return [(x, z), (x, -z), (-x, z), (-x, -z)]


def airplane(rng: np.random.Generator) -> list[Solid]:
    """Along x: its nose to the right."""
    body, wing, tail, engine = range(4)
    radius, span, sweep = rng.uniform(0.1, 0.16), rng.uniform(0.4, 0.6), rng.uniform(0, 35)
    chord, height = rng.uniform(0.12, 0.2), rng.uniform(-0.8, 0.8) * radius
    solids = [Solid(tail, box, (-0.85, 0.2, 0), (rng.uniform(0.08, 0.14), 0.22, 0.03), turned(2, -20))]
    for side in (-1, 1):
        turn = turned(1, side * sweep)
        back = np.sin(np.radians(sweep))
        solids.append(Solid(wing, box, (0.05 - span * back, height, side * span), (chord, 0.03, span), turn))
        wide = rng.uniform(0.2, 0.26)
        solids.append(Solid(tail, box, (-0.88 - wide * back, 0.05, side * wide), (0.09, 0.03, wide), turn))
        for place in (0.45, 0.8)[: rng.integers(1, 3)]:
            where = (0.12 - place * span * 2 * back, height - 0.1, side * place * span)
            solids.append(Solid(engine, cone(0.8), where, (0.06, rng.uniform(0.12, 0.18), 0.06), ALONG_X))
    return [*solids, Solid(body, ball, (0, 0, 0), (1, radius, radius))]


def bag(rng: np.random.Generator) -> list[Solid]:
    """A box with an arch on it."""
    handle, body = range(2)
    x, y, z = rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.3)
    radius = rng.uniform(0.5, 0.9) * x
    arch = ring(rng.uniform(0.1, 0.16), arch=True)
    return [
        Solid(handle, arch, (0, y, 0), (radius, rng.uniform(0.2, 0.6), 0.06)),
        Solid(body, box, (0, 0, 0), (x, y, z)),
    ]


def cap(rng: np.random.Generator) -> list[Solid]:
    """A dome with a peak."""
    panels, peak = range(2)
    x, z, reach = rng.uniform(0.5, 0.6), rng.uniform(0.4, 0.5), rng.uniform(0.3, 0.6)
    turn = turned(2, -rng.uniform(0, 20))
    return [
        Solid(peak, cone(), (0.8 * x, 0.03, 0), (reach, 0.04, rng.uniform(0.7, 0.95) * z), turn),
        Solid(panels, dome, (0, 0, 0), (x, rng.uniform(0.35, 0.6), z)),
    ]


def car(rng: np.random.Generator) -> list[Solid]:
    """Along x: its hood to the right."""
    roof, hood, wheel, body = range(4)
    y, z, ends, radius = rng.uniform(0.12, 0.2), rng.uniform(0.35, 0.45), rng.uniform(0.1, 0.4), rng.uniform(0.14, 0.2)
    high, thick = rng.uniform(0.12, 0.25), 0.06
    return [
        Solid(body, box, (0, 0, 0), (1, y, z)),
        Solid(roof, box, ((ends - 1.0) / 2, y + high, 0), ((ends + 1.0) / 2, high, 0.9 * z)),
        Solid(hood, box, ((ends + 1) / 2, y, 0), ((1 - ends) / 2, thick, z)),
        *(
            Solid(wheel, cone(), (dx, -y, dz), (radius, 0.08, radius), ALONG_Z)
            for dx, dz in corners(rng.uniform(0.5, 0.7), z)
        ),
    ]


def chair(rng: np.random.Generator) -> list[Solid]:
    """Its back at the back."""
    back, seat, leg, arm = range(4)
    x, z, high, tall = rng.uniform(0.4, 0.55), rng.uniform(0.4, 0.5), rng.uniform(0.25, 0.5), rng.uniform(0.35, 0.6)
    thick = rng.uniform(0.05, 0.08)
    solids = legs(leg, rng, x, -high, high, z)
    solids.append(Solid(back, box, (0, tall, -z - 0.05), (x, tall, thick), turned(0, rng.uniform(0, 15))))
    if rng.uniform() < 0.7:
        rest = rng.uniform(0.25, 0.35)
        for side in (-1, 1):
            solids.append(Solid(arm, box, (side * x, rest, 0), (0.06, 0.05, z)))
            solids.append(Solid(arm, cone(), (side * x, rest / 2, 0.7 * z), (0.05, rest / 2, 0.05)))
    return [*solids, Solid(seat, box, (0, 0, 0), (x, thick, z))]


def legs(part: int, rng: np.random.Generator, x: float, y: float, high: float, z: float) -> list[Solid]:
    """Four legs, around or square, or one with a foot: of half a height, around a height."""
    if rng.uniform() < 0.3:
        foot = rng.uniform(0.5, 0.9) * min(x, z)
        return [
            Solid(part, cone(), (0, y, 0), (0.08, high, 0.08)),
            Solid(part, cone(0.8), (0, y - high, 0), (foot, 0.05, foot)),
        ]
    form, thick = (box, cone(rng.uniform(1, 1.6)))[rng.integers(2)], rng.uniform(0.045, 0.075)
    return [Solid(part, form, (dx, y, dz), (thick, high, thick)) for dx, dz in corners(x - 0.07, z - 0.07)]


def earphone(rng: np.random.Generator) -> list[Solid]:
    """A headband, its two ends, and a wire that hangs from one."""
    ear, headband, wire = range(3)
    x, y, radius = rng.uniform(0.5, 0.65), rng.uniform(0.55, 0.75), rng.uniform(0.17, 0.28)
    long, side = rng.uniform(0.3, 0.6), rng.choice([-1, 1])
    return [
        Solid(wire, cone(), (side * x, -radius - long, 0), (0.04, long, 0.04)),
        Solid(headband, ring(rng.uniform(0.08, 0.12), arch=True), (0, 0, 0), (x, y, rng.uniform(0.07, 0.12))),
        *(Solid(ear, cone(), (end * x, 0, 0), (radius, rng.uniform(0.09, 0.14), radius), ALONG_X) for end in (-1, 1)),
    ]


def guitar(rng: np.random.Generator) -> list[Solid]:
    """Upright, its strings to the viewer."""
    head, neck, body = range(3)
    lower, upper = rng.uniform(0.36, 0.46), rng.uniform(0.26, 0.34)
    long, thick = rng.uniform(0.35, 0.5), rng.uniform(0.06, 0.11)
    return [
        Solid(neck, box, (0, long + 0.2, thick / 2), (0.06, long, 0.045)),
        Solid(head, box, (0, 2 * long + 0.32, thick / 2), (0.1, rng.uniform(0.12, 0.18), 0.05)),
        Solid(body, ball, (0, -0.4, 0), (lower, 0.85 * lower, thick)),
        Solid(body, ball, (0, 0.05, 0), (upper, 0.95 * upper, thick)),
    ]


def knife(rng: np.random.Generator) -> list[Solid]:
    """Upright, its blade above."""
    blade, handle = range(2)
    long, grip, wide = rng.uniform(0.5, 0.8), rng.uniform(0.25, 0.4), rng.uniform(0.1, 0.16)
    return [
        Solid(blade, cone(rng.uniform(0, 0.6)), (0, long, 0), (wide, long, 0.035)),
        Solid(handle, (box, ball)[rng.integers(2)], (0, -grip, 0), (rng.uniform(0.08, 0.12), grip, 0.08)),
    ]


def lamp(rng: np.random.Generator) -> list[Solid]:
    """On its base, under its shade a bulb."""
    base, shade, bulb, tube = range(4)
    high, radius, tall = rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.5), rng.uniform(0.18, 0.3)
    foot = rng.uniform(0.22, 0.42)
    top, hollow = rng.uniform(0.4, 0.9), 0.14
    return [
        Solid(tube, cone(), (0, 0, 0), (0.05, high, 0.05)),
        Solid(base, (cone(0.7), dome, box)[rng.integers(3)], (0, -high, 0), (foot, rng.uniform(0.05, 0.1), foot)),
        Solid(bulb, ball, (0, high, 0), (0.12, 0.15, 0.12)),
        Solid(shade, cone(top, hollow), (0, high, 0), (radius, tall, radius)),
    ]


def laptop(rng: np.random.Generator) -> list[Solid]:
    """Open by some angle, its screen at the back."""
    keyboard, screen = range(2)
    x, z, opened = rng.uniform(0.6, 0.8), rng.uniform(0.35, 0.5), rng.uniform(0, 45)
    rise, back = z * np.cos(np.radians(opened)), z * np.sin(np.radians(opened))
    return [
        Solid(screen, box, (0, rise, -z - back), (x, z, 0.04), turned(0, opened)),
        Solid(keyboard, box, (0, 0, 0), (x, rng.uniform(0.04, 0.07), z)),
    ]


def motorbike(rng: np.random.Generator) -> list[Solid]:
    """Along x: its light to the right."""
    tank, seat, wheel, handle, light, frame = range(6)
    radius, apart = rng.uniform(0.28, 0.36), rng.uniform(0.55, 0.7)
    high = rng.uniform(0.3, 0.4)
    lean = turned(2, rng.uniform(15, 30))
    return [
        Solid(frame, box, (0, 0.05, 0), (apart - 0.15, 0.12, 0.1)),
        Solid(frame, box, (apart - 0.08, 0.25, 0), (0.06, 0.32, 0.08), lean),
        *(
            Solid(wheel, ring(rng.uniform(0.2, 0.3)), (end * apart, -0.1, 0), (radius, radius, rng.uniform(0.06, 0.1)))
            for end in (-1, 1)
        ),
        Solid(seat, box, (-0.35, high - 0.06, 0), (rng.uniform(0.25, 0.35), 0.06, 0.12)),
        Solid(tank, ball, (0.12, high, 0), (rng.uniform(0.22, 0.3), rng.uniform(0.13, 0.18), 0.15)),
        Solid(handle, cone(), (apart - 0.2, 0.6, 0), (0.05, rng.uniform(0.3, 0.42), 0.05), ALONG_Z),
        Solid(light, ball, (apart - 0.02, 0.46, 0), (0.12, 0.12, 0.12)),
    ]


def mug(rng: np.random.Generator) -> list[Solid]:
    """A hollow cup with a handle at its right."""
    handle, cup = range(2)
    radius, high, reach = rng.uniform(0.35, 0.5), rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.4)
    top, thick = rng.uniform(0.9, 1.25), 0.16
    return [
        Solid(handle, ring(0.2, arch=True), (0.95 * radius, 0, 0), (0.65 * high, reach, 0.07), ALONG_X),
        Solid(cup, cone(top, thick), (0, 0, 0), (radius, high, radius)),
        Solid(cup, cone(), (0, -high, 0), (radius, 0.05, radius)),
    ]


def pistol(rng: np.random.Generator) -> list[Solid]:
    """Along x: its muzzle to the right."""
    barrel, handle, trigger = range(3)
    long, thick, grip = rng.uniform(0.5, 0.75), rng.uniform(0.1, 0.14), rng.uniform(0.25, 0.38)
    return [
        Solid(trigger, ring(0.25), (-0.1 - 0.1 * long, -thick - 0.1, 0), (0.2, 0.16, 0.05)),
        Solid(handle, box, (-long + 0.12, -grip, 0), (0.13, grip, 0.09), turned(2, rng.uniform(5, 25))),
        Solid(barrel, (box, ball)[rng.integers(2)], (0, 0, 0), (long, thick, 0.1)),
    ]


def rocket(rng: np.random.Generator) -> list[Solid]:
    """Upright, its fins around its foot."""
    body, fin, nose = range(3)
    radius, high, tip = rng.uniform(0.14, 0.24), rng.uniform(0.5, 0.7), rng.uniform(0.2, 0.35)
    number, wide, tall = rng.integers(3, 5), rng.uniform(0.12, 0.22), rng.uniform(0.15, 0.25)
    solids = []
    for turn in (turned(1, 360 * k / number) for k in range(number)):
        out: Array = turn[0] * (radius + wide - 0.03)  # along its own x axis
        solids.append(Solid(fin, box, (out[0], -high + tall, out[2]), (wide, tall, 0.04), turn))
    pointed = Solid(nose, cone(0), (0, high + tip, 0), (radius, tip, radius))
    rounded = Solid(nose, dome, (0, high, 0), (radius, 2 * tip, radius))
    return [*solids, Solid(body, cone(), (0, 0, 0), (radius, high, radius)), (pointed, rounded)[rng.integers(2)]]


def skateboard(rng: np.random.Generator) -> list[Solid]:
    """Along x."""
    wheel, deck, belt = range(3)
    z, ends, radius, low = rng.uniform(0.2, 0.28), rng.uniform(10, 30), rng.uniform(0.08, 0.12), rng.uniform(0.12, 0.2)
    axles = rng.uniform(0.45, 0.6)
    solids = [Solid(belt, box, (end * axles, -low / 2, 0), (0.12, low / 2, 0.1)) for end in (-1, 1)]
    solids += [Solid(deck, box, (end * 0.85, 0.06, 0), (0.2, 0.045, z), turned(2, -end * ends)) for end in (-1, 1)]
    solids += [Solid(wheel, cone(), (dx, -low, dz), (radius, 0.07, radius), ALONG_Z) for dx, dz in corners(axles, z)]
    return [*solids, Solid(deck, box, (0, 0, 0), (0.75, 0.045, z))]


def table(rng: np.random.Generator) -> list[Solid]:
    """A top on legs, and mostly a support between them."""
    top, leg, support = range(3)
    x, z, high, thick = rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.5), rng.uniform(0.05, 0.08)
    around = rng.uniform() < 0.3
    solids = legs(leg, rng, 0.7 * x if around else x, -high, high, 0.7 * z if around else z)
    if rng.uniform() < 0.8:
        solids.append(Solid(support, box, (0, -rng.uniform(0.3, 1.5) * high, 0), (0.65 * x, 0.06, 0.65 * z)))
    return [*solids, Solid(top, cone() if around else box, (0, 0, 0), (x, thick, z))]


OBJECTS: dict[str, Object] = {
    "Airplane": airplane,
    "Bag": bag,
    "Cap": cap,
    "Car": car,
    "Chair": chair,
    "Earphone": earphone,
    "Guitar": guitar,
    "Knife": knife,
    "Lamp": lamp,
    "Laptop": laptop,
    "Motorbike": motorbike,
    "Mug": mug,
    "Pistol": pistol,
    "Rocket": rocket,
    "Skateboard": skateboard,
    "Table": table,
}
