# SPDX-License-Identifier: ISC
"""A host's clock on the wall that can be made to jump (clock_jump.c). No process of the host may see
another one, so each is started with environment()."""

import os
import pathlib
import struct
import subprocess

SOURCE = pathlib.Path(__file__).with_name("clock_jump.c")


class JumpingClock:
    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "clock"
        self.path.write_bytes(struct.pack("q", 0))
        self.library = pathlib.Path(directory) / "clock_jump.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE], check=True)

    def environment(self):
        """The sanitizers want to be the first library of all, but can do without."""
        asan = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
        return {"LD_PRELOAD": str(self.library), "KEEPSOCK_TEST_CLOCK": str(self.path),
                "ASAN_OPTIONS": asan}

    def jump(self, seconds):
        """In place: the processes have it mapped."""
        with open(self.path, "r+b") as file:
            ahead, = struct.unpack("q", file.read(8))
            file.seek(0)
            file.write(struct.pack("q", ahead + seconds))
