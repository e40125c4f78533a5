# SPDX-License-Identifier: Apache-2.0
"""The archive that a kernel unpacks as its first root file system (cpio, "newc"), made here: names and modes need no root and no cpio program."""
import gzip
import os
import stat


def archive(files, texts=None, links=None):
    """The archive, compressed. files: {path in the guest: path here}, texts: {path in the guest: str or bytes}, links: {path: target}."""
    parts, folders = [], set()

    def entry(name, mode, content=b"", device=(0, 0)):
        name = name.strip("/")
        head = [len(parts) + 1, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0]
        block = b"070701" + b"".join(b"%08x" % v for v in head) + name.encode() + b"\0"
        block += b"\0" * (-len(block) % 4) + content
        parts.append(block + b"\0" * (-len(block) % 4))

    def parents(name):
        parent = os.path.dirname(name.strip("/"))
        if parent and parent not in folders:
            parents(parent)
            folders.add(parent)
            entry(parent, stat.S_IFDIR | 0o755)

    parents("/dev/x")
    entry("/dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for name, here in sorted(files.items()):
        parents(name)
        with open(here, "rb") as f:
            entry(name, stat.S_IFREG | 0o755, f.read())
    for name, text in sorted((texts or {}).items()):
        parents(name)
        entry(name, stat.S_IFREG | 0o644, text.encode() if isinstance(text, str) else text)
    for name, target in sorted((links or {}).items()):
        parents(name)
        entry(name, stat.S_IFLNK | 0o777, target.encode())
    entry("TRAILER!!!", 0)
    return gzip.compress(b"".join(parts), 1)
