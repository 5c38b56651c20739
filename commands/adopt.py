"""`ranp adopt`: trained weights of a slim network take their place in its run."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, ended, stdout, steps
from ranp.commands._tables import print_verification
from ranp.jobs.options import Adopt
from ranp.reports import Verification


@command(Adopt, "ranp adopt runs/small --weights trained.pt")
def adopt(options: Adopt) -> None:
    """Put trained weights of RUN's slim network into RUN.

    They are proved like those of `ranp prune`, hashed, and recorded in the report as trained; plan and options stay.
    """
    from ranp.jobs.adopt import adopt as carry_out

    with steps("verify"):
        found = carry_out(options)
    if options.as_json:
        emit_json(found)
    console = stdout()
    console.quiet = options.as_json
    console.print(f"weights: {found['trained']['loaded']}", soft_wrap=True, markup=False)
    print_verification(console, Verification(**found["verify"]))
    for name in found["stale"]:
        console.print(f"{name} holds the former weights: `ranp export` it again", soft_wrap=True, markup=False)
    word = "dry run: would write" if found["dry_run"] else "wrote"
    console.print(f"{word} {found['run']}", soft_wrap=True, markup=False)
    ended(found["verify"]["passed"])
