"""`personalab` and `python -m personalab`: the command line, which can be interrupted from its first moment on."""

import signal
import sys


def main() -> int:
    """Load and run the command line; its exit code."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as a shell's background jobs have it
        # A bar in the terminal hides the cursor: whoever ends the command gets it back, as after Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        from personalab import cli

        return cli.main()
    except KeyboardInterrupt:  # while it was loading
        return 130


if __name__ == "__main__":
    sys.exit(main())
