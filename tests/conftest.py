"""The fake suite and policy are found like any plug-in: by their dist-info on the path, here and in every worker."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

FAKES = str(Path(__file__).parent / "fakes")
sys.path.insert(0, FAKES)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FAKES, os.environ.get("PYTHONPATH", "")]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; children would not hear Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)
