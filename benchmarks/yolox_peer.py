"""YOLOX-nano on PASCAL VOC, and its seconds beside the bundled model's: a peer that was trained on COCO.

Command:  .venv/bin/python benchmarks/yolox_peer.py yolox_nano.onnx --data VOCdevkit --split 2007/test
          --beside 20 also times it and the bundled model in turn on the first 20 images

The file is ``model/yolox_nano.onnx`` of github.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample (Apache-2.0), run by ONNX
Runtime (extra ``onnx``) on one thread. Its input and output are YOLOX's: BGR on a square of 416 pixels whose rest is
grey, a box for each cell of three grids, non-maximum suppression at IoU 0.45 for each class. Of COCO's 80 classes VOC's
20 are kept.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector import load_dataset, load_model
from detector.evaluation import evaluate_voc, truth_of_dataset
from detector.types import Detections
from proposals.boxes import clip, is_valid, nms

SIDE, GREY = 416, 114
STRIDES = (8, 16, 32)
LEAST_SCORE, NMS_IOU, MOST = 0.01, 0.45, 300
COCO = {  # VOC's names to the places of COCO's
    "aeroplane": 4, "bicycle": 1, "bird": 14, "boat": 8, "bottle": 39, "bus": 5, "car": 2, "cat": 15, "chair": 56,
    "cow": 19, "diningtable": 60, "dog": 16, "horse": 17, "motorbike": 3, "person": 0, "pottedplant": 58, "sheep": 18,
    "sofa": 57, "train": 6, "tvmonitor": 62,
}  # fmt: skip


class YoloX:
    """The peer, called as a :class:`detector.detection.pipeline.Detector` is."""

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.columns = [5 + COCO[name] for name in class_names]
        cells = [(x, y, stride) for stride in STRIDES for y in range(SIDE // stride) for x in range(SIDE // stride)]
        self.grid = np.array(cells, np.float32)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        size = image.shape[:2]
        factor = SIDE / max(size)
        resized = cv2.resize(image, (round(size[1] * factor), round(size[0] * factor)))
        square = np.full((SIDE, SIDE, 3), GREY, np.uint8)
        square[: resized.shape[0], : resized.shape[1]] = resized
        x = square[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)  # BGR
        (found,) = self.session.run(None, {"images": np.ascontiguousarray(x)})[0]
        centre = (found[:, :2] + self.grid[:, :2]) * self.grid[:, 2:]
        half = np.exp(found[:, 2:4]) * self.grid[:, 2:] / 2
        boxes = clip(np.concatenate([centre - half, centre + half], axis=1) / factor, size).astype(np.float32)
        scores = found[:, 4:5] * found[:, self.columns]
        rows, labels = np.nonzero((scores >= LEAST_SCORE) & is_valid(boxes)[:, None])
        kept = []
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            own = own[np.argsort(-scores[rows[own], label], kind="stable")]
            kept.append(own[nms(boxes[rows[own]], scores[rows[own], label], NMS_IOU, MOST)])
        chosen = np.concatenate([np.zeros(0, np.int64), *kept])
        best = scores[rows[chosen], labels[chosen]].astype(np.float32)
        return Detections.sorted(boxes[rows[chosen]], best, labels[chosen].astype(np.int64), size)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="2007/test")
    parser.add_argument("--first", type=int, help="only the first so many images")
    parser.add_argument("--beside", type=int, default=0, help="images that both detectors are timed on, in turn")
    given = parser.parse_args()
    data = load_dataset(given.data, split=given.split)
    data = data.subset(np.arange(min(given.first or len(data), len(data))))
    peer = YoloX(given.model, data.class_names)
    found = {name: peer(data.read(index)) for index, name in enumerate(data.image_ids)}
    result = evaluate_voc(found, truth_of_dataset(data), data.class_names, bootstrap_samples=1000)
    interval = result.interval
    between = "" if interval is None else f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    print(f"YOLOX-nano: {100 * result.mean_ap:.1f}{between} mAP, {len(data)} images")
    if given.beside:
        ours = load_model(device="cpu", threads=1)
        seconds: dict[str, list[float]] = {"YOLOX-nano": [], "bundled": []}
        for index in range(-1, given.beside):
            image = data.read(max(index, 0))
            for name, detector in (("YOLOX-nano", peer), ("bundled", ours)):
                begun = time.process_time()
                detector(image)
                if index >= 0:  # the first is for warming up
                    seconds[name].append(time.process_time() - begun)
        for name, spent in seconds.items():
            low, median, high = np.percentile(spent, [10, 50, 90])
            print(f"{name}: {median:.3f} s ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
