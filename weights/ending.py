"""How the scripts of this folder end by a signal, and how they print their results."""

import contextlib
import os
import signal
import sys


unfinished = set()  # files that are to be removed where the program ends before they are renamed


def end_by_signals():
    """From here on Ctrl-C, SIGTERM and SIGHUP end the program with one line, no unfinished file and the
    status that shells give: 128 + the signal's number."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)


def end(number, _frame):
    for path in unfinished:
        with contextlib.suppress(OSError):
            os.remove(path)
    text = f"{os.path.basename(sys.argv[0])}: ended by {signal.Signals(number).name}\n"
    with contextlib.suppress(OSError):  # of a terminal that is gone
        os.write(2, text.encode())
    # An exception would come out as another one of the C++ that calls Python while PyTorch is imported.
    os._exit(128 + number)


def print_line(text):
    """On standard output. A pipe whose reader went away is none of our business; raises OSError where the
    line cannot be written otherwise."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    try:
        # In whatever letters it has: a name may have others.
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        # What is left in the buffer would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output takes nothing ({error.strerror})") from error
