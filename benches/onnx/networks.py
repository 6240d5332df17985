"""The networks of the house as ONNX graphs. Each function takes a graph with its input and answers the output."""

import numpy as np
from graph import Graph


def mobilefacenet(graph):
    def block(value, key, outputs, **shape):
        return graph.prelu(graph.conv(value, f"{key}.conv", outputs, f"{key}.bn", **shape), f"{key}.prelu")

    def bottleneck(value, key, expansion, outputs, stride):
        wide = value.shape[0] * expansion
        middle = graph.prelu(graph.conv(value, f"{key}.0", wide, f"{key}.1"), f"{key}.2")
        around = dict(kernel=(3, 3), stride=(stride, stride), padding=(1, 1), groups=wide)
        middle = graph.prelu(graph.conv(middle, f"{key}.3", wide, f"{key}.4", **around), f"{key}.5")
        output = graph.conv(middle, f"{key}.6", outputs, f"{key}.7")
        return graph.add(output, value) if output.shape == value.shape else output

    value = block(graph.input, "conv1", 64, kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    value = block(value, "dw_conv1", 64, kernel=(3, 3), padding=(1, 1), groups=64)
    stages = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]
    number = 0
    for expansion, channels, repeats, stride in stages:
        for repeat in range(repeats):
            value = bottleneck(value, f"blocks.{number}.conv", expansion, channels, stride if repeat == 0 else 1)
            number += 1
    value = block(value, "conv2", 512)
    value = graph.conv(value, "linear7.conv", 512, "linear7.bn", kernel=value.shape[1:], groups=512)
    return graph.flatten(graph.conv(value, "linear1.conv", 128, "linear1.bn"))


def osnet(widths):
    def network(graph):
        def linear(value, key, outputs, **shape):
            return graph.conv(value, f"{key}.conv", outputs, f"{key}.bn", **shape)

        def relu(value, key, outputs, **shape):
            return graph.relu(linear(value, key, outputs, **shape))

        def light(value, key):
            channels = value.shape[0]
            across = graph.conv(value, f"{key}.conv1", channels)
            around = dict(kernel=(3, 3), padding=(1, 1), groups=channels)
            return graph.relu(graph.conv(across, f"{key}.conv2", channels, f"{key}.bn", **around))

        def gated(value, key):
            channels = value.shape[0]
            hidden = graph.relu(graph.conv(graph.mean_over_map(value), f"{key}.fc1", channels // 16, bias=True))
            gate = graph.conv(hidden, f"{key}.fc2", channels, bias=True)
            return graph.node("Mul", [value, graph.node("Sigmoid", [gate], gate.shape)], value.shape)

        def block(value, key, outputs):
            reduced = relu(value, f"{key}.conv1", outputs // 4)
            total = None
            for length, stream in enumerate("abcd", start=1):
                walk = reduced
                for layer in range(length):
                    walk = light(walk, f"{key}.conv2{stream}" + (f".{layer}" if length > 1 else ""))
                walk = gated(walk, f"{key}.gate")
                total = walk if total is None else graph.add(total, walk)
            output = linear(total, f"{key}.conv3", outputs)
            short = value if value.shape[0] == outputs else linear(value, f"{key}.downsample", outputs)
            return graph.relu(graph.add(output, short))

        stem, *stages = widths
        value = relu(graph.input, "conv1", stem, kernel=(7, 7), stride=(2, 2), padding=(3, 3))
        value = graph.pool("MaxPool", value, 3, 2, 1)
        for number, outputs in enumerate(stages, start=2):
            for index in range(2):
                value = block(value, f"conv{number}.{index}", outputs)
            if outputs != stages[-1]:
                value = relu(value, f"conv{number}.2.0", outputs)
                value = graph.pool("AveragePool", value, 2, 2, 0)
        value = relu(value, "conv5", stages[-1])
        value = graph.flatten(graph.mean_over_map(value))
        weight = graph.weights.take("fc.0.weight", [512, stages[-1]])
        bias = graph.weights.take("fc.0.bias", [512])
        factors, shifts = graph.scale("fc.1", 512)
        return graph.relu(graph.gemm(value, weight * factors[:, None], bias * factors + shifts))

    return network


def gaitgraph(graph):
    joints, distances, stored, window = 17, 3, 4, 9

    def weighed(adjacency, key):
        return (adjacency * graph.weights.take(f"{key}.edge", adjacency.shape))[:distances]

    def space(value, key, edges, outputs, before=None):
        """A 1 x 1 convolution for each distance, then the sum over the joints at that distance, all as one product."""
        inputs, frames, _ = value.shape
        gcn = [distances * outputs, inputs, 1, 1]
        weight, shift = graph.conv_weights(f"{key}.conv.gcn", gcn, bias=True)
        if before is not None:
            factors, shifts = before
            shift = shift + weight[:, :, 0, 0] @ shifts
            weight = weight * factors[None, :, None, None]
        factors, shifts = graph.scale(f"{key}.bn", outputs)
        repeated = np.tile(factors, distances)
        mixed = graph.conv_of(value, weight * repeated[:, None, None, None], shift * repeated)
        split = graph.constant([0, distances, outputs * frames, joints], np.int64)
        mixed = graph.node("Reshape", [mixed, split], [distances, outputs * frames, joints])
        mixed = graph.node("MatMul", [mixed, graph.constant(edges)], mixed.shape)
        graph.operations += 2 * frames * outputs * edges.size
        axis = graph.constant([1], np.int64)
        summed = graph.node("ReduceSum", [mixed, axis], mixed.shape[1:], keepdims=0)
        whole = graph.constant([0, outputs, frames, joints], np.int64)
        summed = graph.node("Reshape", [summed, whole], [outputs, frames, joints])
        shift = graph.constant(shifts.reshape(outputs, 1, 1))
        return graph.relu(graph.node("Add", [summed, shift], summed.shape))

    def time(value, key, outputs, stride):
        shape = dict(kernel=(window, 1), stride=(stride, 1), padding=(window // 2, 0), bias=True)
        return graph.relu(graph.conv(value, f"{key}.conv", outputs, f"{key}.bn", **shape))

    def bottleneck(value, key, outputs, stride, middle):
        down = graph.relu(graph.conv(value, f"{key}.conv_down", outputs // 8, f"{key}.bn_down", bias=True))
        output = graph.conv(middle(down), f"{key}.conv_up", outputs, f"{key}.bn_up", bias=True)
        if value.shape != output.shape:
            names = (f"{key}.residual.0", outputs, f"{key}.residual.1")
            value = graph.conv(value, *names, bias=True, stride=(stride, 1))
        return graph.relu(graph.add(output, value))

    def unit(value, key, adjacency, outputs, stride):
        edges = weighed(adjacency, key)
        scn, tcn = f"{key}.scn", f"{key}.tcn"
        value = bottleneck(value, scn, outputs, 1, lambda down: space(down, scn, edges, outputs // 8))
        return bottleneck(value, tcn, outputs, stride, lambda down: time(down, tcn, outputs // 8, stride))

    frames, _, channels = graph.input.shape
    value = graph.node("Transpose", [graph.input], [channels, frames, joints], perm=[0, 3, 1, 2])
    branch = "input_branches.0"
    adjacency = graph.weights.take(f"{branch}.A", [stored, joints, joints])
    before = graph.scale(f"{branch}.bn", channels)
    value = space(value, f"{branch}.layers.0.scn", weighed(adjacency, f"{branch}.layers.0"), 64, before)
    value = time(value, f"{branch}.layers.0.tcn", 64, 1)
    for layer, outputs in [(1, 64), (2, 32)]:
        value = unit(value, f"{branch}.layers.{layer}", adjacency, outputs, 1)
    adjacency = graph.weights.take("A", [stored, joints, joints])
    for layer, (outputs, stride) in enumerate([(128, 2), (128, 1), (256, 2), (256, 1)]):
        value = unit(value, f"main_stream.{layer}", adjacency, outputs, stride)
    value = graph.flatten(graph.mean_over_map(value))
    return graph.gemm(value, graph.weights.take("fcn.weight", [128, 256]), graph.weights.take("fcn.bias", [128]))


#: Each network of the server that has a graph here: the shape of its input, and what makes the graph.
NETWORKS = {
    "mobilefacenet-112x96": ((3, 112, 96), mobilefacenet),
    "osnet-x0.25": ((3, 256, 128), osnet([16, 64, 96, 128])),
    "osnet-x1.0": ((3, 256, 128), osnet([64, 256, 384, 512])),
    "gaitgraph-resgcn-n39-r8": ((60, 17, 3), gaitgraph),
}


def build(architecture, weights):
    """The model of an architecture with these weights, and the operations of one sample."""
    shape, network = NETWORKS[architecture]
    graph = Graph(weights, shape)
    model = graph.model(network(graph))
    return model, graph.operations
