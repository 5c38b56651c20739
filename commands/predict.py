"""`ranp predict`: answers of a network, on the grids of the images."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, progress, stdout
from ranp.commands._tables import print_weights
from ranp.jobs.options import Predict


@command(Predict, "ranp predict runs/trained --images scan.nii.gz --out predictions")
def predict(options: Predict) -> None:
    """Write the answers of MODEL, or of a run, for images.

    Labels and scores on the grid and with the geometry of each image, disparities of stereo pairs, classes of pictures
    and videos. `ranp refine` takes probabilities and logits as they are.
    """
    from ranp.jobs.predict import predict as predicted

    with progress() as bar:
        found = predicted(options, lambda cases: bar.track(cases, description="cases"))
    if options.as_json:
        emit_json(found)
        return
    console = stdout()
    print_weights(console, found["weights"])
    for case in found["cases"]:
        console.print(f"{case['name']}: {', '.join(case['files'])}", soft_wrap=True, markup=False)
    console.print(f"wrote {found['out']}", soft_wrap=True, markup=False)
