"""The first requests of a process: eight threads at once, before OpenCV or the face detector has been imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.settings import ROOT

# Each start is a fork of a process that has imported neither; the parent has one thread, as a fork needs it.
STARTS = """
import os, sys, threading
import numpy as np
from PIL import Image
from app.vision import faces, preprocess

THREADS = 8
pixels, portrait = np.zeros((8, 8, 3), np.uint8), Image.open("static/astronaut.jpg").convert("RGB")
first = {
    "opencv": lambda: preprocess.resize(pixels, 4, 4, "bilinear").shape == (4, 4, 3),
    "faces": lambda: len(faces.find_faces(portrait)) == 1,
}[sys.argv[1]]

def start():
    barrier, answers = threading.Barrier(THREADS), []
    def ask():
        barrier.wait()
        answers.append(first())
    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return answers == [True] * THREADS

assert not {"cv2", "openvino"} & set(sys.modules)
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if start() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
"""


def start(what: str, times: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STARTS, what, str(times)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("times", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_eight_threads_can_resize_at_once_in_a_new_process(times: int) -> None:
    done = start("opencv", times)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_eight_threads_can_search_for_faces_at_once_in_a_new_process(times: int) -> None:
    done = start("faces", times)
    assert done.returncode == 0, done.stderr
