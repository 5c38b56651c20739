"""Where the program begins: an interrupt while it is still being loaded is no traceback either."""

import sys


def run() -> None:
    """Run `ranp`."""
    try:
        from ranp.commands.main import app
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        if "--json" in sys.argv:
            said = '{"message": "interrupted", "kind": "KeyboardInterrupt", "exit_code": 130, "closest": null}'
            print(f'{{"error": {said}}}')
        sys.exit(130)
    app()
