"""Archives of the old model servers, packed by their own tools: ``python make_archives.py``.

They hold the checkpoint of MXNet 1.0 that make_mxnet.py makes, and the smallest service that each tool accepts.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import SIDE

FOLDER = Path(__file__).parent
LABELS = "ant\nbee\ncat\n"
LEGACY_SERVICE = """from mms.model_service.mxnet_vision_service import MXNetVisionService


class Insects(MXNetVisionService):
    pass
"""
SERVICE = '''def handle(data, context):
    """Answer nothing: the network in this archive is what counts."""
    return [] if data is None else ["" for _ in data]
'''


def main():
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as work:
        given = Path(work) / "given"
        given.mkdir()
        for name in ("mxnet100-symbol.json", "mxnet100-0007.params"):
            shutil.copy(str(FOLDER / name), str(given / name))
        signature = {
            "input_type": "image/jpeg",
            "inputs": [{"data_name": "data", "data_shape": [0, 3, SIDE, SIDE]}],
            "output_type": "application/json",
            "outputs": [{"data_name": "softmax", "data_shape": [0, 3]}],
        }
        (given / "signature.json").write_text(json.dumps(signature))
        (given / "synset.txt").write_text(LABELS)
        (given / "insects.py").write_text(LEGACY_SERVICE)
        export = [str(programs / "mxnet-model-export"), "--model-name", "mms04", "--model-path", str(given)]
        subprocess.run([*export, "--service-file-path", str(given / "insects.py")], check=True, cwd=str(FOLDER))
        (given / "insects.py").unlink()
        (given / "service.py").write_text(SERVICE)
        pack = [str(programs / "model-archiver"), "--model-name", "mms10", "--model-path", str(given), "--force"]
        subprocess.run([*pack, "--handler", "service:handle", "--export-path", str(FOLDER)], check=True)


if __name__ == "__main__":
    main()
