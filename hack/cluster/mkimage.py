#!/usr/bin/env python3
"""Makes a container image (an OCI archive with one layer) from files of this machine.

No registry, no container engine and no Dockerfile are needed, and the same files always
give the same image: times, owners and the order of entries are fixed.

    mkimage.py OUT.tar localhost/hello:local --add ./hello:/bin/hello --entrypoint '["/bin/hello"]'
"""

import argparse
import hashlib
import io
import json
import os
import platform
import stat
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pair(text):
    """An argument of the form DEST:REST, split at its first colon."""
    first, colon, second = text.partition(":")
    if not colon or not first:
        raise argparse.ArgumentTypeError(f"{text!r} has no colon")
    return first, second


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the file to write")
    parser.add_argument("name", help="the image's name with its tag")
    parser.add_argument("--add", action="append", default=[], type=pair, metavar="HOST:DEST",
                        help="a file, or a folder with all that is in it; a symbolic link given here is followed")
    parser.add_argument("--link", action="append", default=[], type=pair, metavar="DEST:TARGET",
                        help="a symbolic link")
    parser.add_argument("--text", action="append", default=[], type=pair, metavar="DEST:STRING",
                        help="a file with this content")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--user", default="", metavar="UID:GID")
    parser.add_argument("--entrypoint", default=[], type=json.loads, metavar="JSON-ARRAY")
    parser.add_argument("--cmd", default=[], type=json.loads, metavar="JSON-ARRAY")
    return parser.parse_args()


class Layer:
    """The image's file system, as a tar archive."""

    def __init__(self, file):
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self.folders = set()
        self._folder("tmp", 0o1777)

    def _folder(self, path, mode=0o755):
        if path in self.folders:
            return
        self.folders.add(path)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def _with_parents(self, destination):
        """The destination as a tar archive names it, after its parent folders have been added."""
        path = destination.strip("/")
        parts = path.split("/")
        for length in range(1, len(parts)):
            self._folder("/".join(parts[:length]))
        return path

    def add(self, source, destination):
        """Adds a file, or a folder with all that is in it, in the order of names."""

        def same_everywhere(entry):
            executable = entry.isdir() or entry.mode & stat.S_IXUSR
            entry.mode = 0o755 if executable else 0o644
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            if entry.isdir():
                self.folders.add(entry.name)
            return entry

        self.tar.add(os.path.realpath(source), self._with_parents(destination), filter=same_everywhere)

    def link(self, destination, target):
        entry = tarfile.TarInfo(self._with_parents(destination))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)

    def text(self, destination, content):
        put(self.tar, self._with_parents(destination), content.encode())


def put(tar, name, content):
    """Adds a file that is in memory."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def digest_of(file):
    """The digest of an open file's content, from its start."""
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def write_archive(out, name, layer, config):
    """Writes the OCI archive: the layer, and the documents that refer to one another by digest."""
    with tarfile.open(out, "w") as archive:

        def blob(media_type, document):
            content = json.dumps(document, sort_keys=True).encode()
            digest = hashlib.sha256(content).hexdigest()
            put(archive, f"blobs/sha256/{digest}", content)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

        put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        system = {"os": "linux", "architecture": ARCHITECTURES.get(platform.machine(), platform.machine())}

        diff_id = digest_of(layer)
        entry = tarfile.TarInfo("blobs/sha256/" + diff_id.removeprefix("sha256:"))
        entry.size, entry.mode = layer.seek(0, os.SEEK_END), 0o644
        layer.seek(0)
        archive.addfile(entry, layer)

        config = blob("application/vnd.oci.image.config.v1+json",
                      {**system, "config": config, "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
        manifest_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = blob(manifest_type, {
            "schemaVersion": 2, "mediaType": manifest_type, "config": config,
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": entry.size}]})
        # containerd takes the image's name from its own annotation, other tools from the second one.
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[-1]}
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                 "manifests": [{**manifest, "platform": system, "annotations": names}]}
        put(archive, "index.json", json.dumps(index, sort_keys=True).encode())
    return manifest["digest"]


def main():
    args = arguments()
    # Next to the result, because /tmp may be small.
    layer_file = args.out + ".layer"
    try:
        with open(layer_file, "w+b") as file:
            layer = Layer(file)
            for source, destination in args.add:
                layer.add(source, destination)
            for destination, target in args.link:
                layer.link(destination, target)
            for destination, content in args.text:
                layer.text(destination, content)
            layer.tar.close()
            config = {"Env": [PATH, *args.env], "Entrypoint": args.entrypoint, "Cmd": args.cmd, "User": args.user}
            digest = write_archive(args.out, args.name, file, config)
    finally:
        os.unlink(layer_file)
    print(args.name, digest)


if __name__ == "__main__":
    main()
