# SPDX-License-Identifier: ISC
"""TLS in memory for clients that have an event loop of their own."""

import ssl


def both_contexts(authority):
    """For TLS 1.2 and for 1.3; authority: the path of its certificate."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = context.maximum_version = version
        yield context


class Records:
    """One end's records in memory. What is to be sent before the handshake's end waits for it."""

    def __init__(self, context):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.waiting, self.shaken = b"", False
        self.shake_hands()

    def shake_hands(self):
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.shaken = True
        if self.waiting:
            self.object.write(self.waiting)

    def seal(self, data):
        if not self.shaken:
            self.waiting += data
        else:
            try:
                self.object.write(data)
            except ssl.SSLZeroReturnError:
                pass              # the server has said its last word, its end is about to come
        return self.outgoing.read()

    def rest(self):
        """What it has to say by itself."""
        return self.outgoing.read()

    def open(self, data):
        self.incoming.write(data)
        if not self.shaken:
            self.shake_hands()
        plaintext = b""
        try:
            while self.shaken and (more := self.object.read(65536)):
                plaintext += more
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return plaintext
