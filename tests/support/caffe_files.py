"""Files of weights as Caffe writes them."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from torch import Tensor

from detector.nets.caffe import caffe_layers

AXES = ("num", "channels", "height", "width")


def caffe_messages() -> dict[str, type]:
    """The messages of caffe.proto that weights are in, as protocol buffers' own library makes them."""
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    fields = {
        "BlobShape": [("dim", 1, many, kinds.TYPE_INT64, "")],
        "BlobProto": [
            *((name, at + 1, one, kinds.TYPE_INT32, "") for at, name in enumerate(AXES)),
            ("data", 5, many, kinds.TYPE_FLOAT, ""),
            ("diff", 6, many, kinds.TYPE_FLOAT, ""),
            ("shape", 7, one, kinds.TYPE_MESSAGE, ".BlobShape"),
        ],
        "LayerParameter": [
            ("name", 1, one, kinds.TYPE_STRING, ""),
            ("type", 2, one, kinds.TYPE_STRING, ""),
            ("loss_weight", 5, many, kinds.TYPE_FLOAT, ""),
            ("blobs", 7, many, kinds.TYPE_MESSAGE, ".BlobProto"),
        ],
        "V1LayerParameter": [
            ("name", 4, one, kinds.TYPE_STRING, ""),
            ("type", 5, one, kinds.TYPE_INT32, ""),
            ("blobs", 6, many, kinds.TYPE_MESSAGE, ".BlobProto"),
            ("blobs_lr", 7, many, kinds.TYPE_FLOAT, ""),
        ],
        "NetParameter": [
            ("name", 1, one, kinds.TYPE_STRING, ""),
            ("layers", 2, many, kinds.TYPE_MESSAGE, ".V1LayerParameter"),
            ("layer", 100, many, kinds.TYPE_MESSAGE, ".LayerParameter"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", syntax="proto2")
    for message, rows in fields.items():
        kind = file.message_type.add(name=message)
        for name, place, label, of, type_name in rows:
            field = kind.field.add(name=name, number=place, label=label, type=of, type_name=type_name or None)
            field.options.packed = message != "V1LayerParameter" and label == many and not type_name
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in fields}


def caffemodel(state: Mapping[str, Tensor], *, old: bool = False) -> bytes:
    """What Caffe would write: as it does since 2015, or as it did before."""
    net = caffe_messages()["NetParameter"](name="GoogleNet")
    layers = net.layers if old else net.layer
    layers.add(name="data")
    for ours, theirs in caffe_layers().items():
        layer = layers.add(name=theirs, **({"type": 4, "blobs_lr": [1, 2]} if old else {"type": "Convolution"}))
        for part in ("weight", "bias"):
            values = state[f"{ours}.{part}"]
            blob = layer.blobs.add(data=values.flatten().tolist())
            if old:
                for axis, side in zip(AXES, [1] * (4 - values.dim()) + list(values.shape), strict=True):
                    setattr(blob, axis, side)
            else:
                blob.shape.dim.extend(values.shape)
    return net.SerializeToString()  # type: ignore[no-any-return]
