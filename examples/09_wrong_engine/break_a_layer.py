"""Make one convolution of a graph wrong, as a bug in a converter may: python break_a_layer.py IN.onnx LAYER OUT.onnx"""

import sys

import onnx
from onnx import numpy_helper

source, layer, target = sys.argv[1:]
model = onnx.load(source)
(node,) = (n for n in model.graph.node if n.name == layer)
(weights,) = (t for t in model.graph.initializer if t.name == node.input[1])
values = numpy_helper.to_array(weights).copy()
values[:4] = -values[:4]  # four of its filters have the wrong sign
weights.CopyFrom(numpy_helper.from_array(values, weights.name))
onnx.save(model, target)
