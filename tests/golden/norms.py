"""Normalisations, and what makes probabilities and losses of scores."""

from .spec import normal, positive, spec, whole

x = normal(2, 6, 3, 5)
scores, maps = normal(5, 4), normal(2, 4, 3, 2)
labels, label_maps = whole(4, 5), whole(4, 2, 3, 2)
weights = positive(4)

NORMS = [
    spec(
        "batch",
        "y = BatchNormalization<epsilon = 0.001>(a, b, c, d, e)",
        "F.batch_norm(a, d, e, b, c, eps=0.001)",
        a=x,
        b=normal(6),
        c=normal(6),
        d=normal(6),
        e=positive(6),
        fixed="d e",  # torch's operator differentiates by all but the statistics
    ),
    spec(
        "batch statistics",
        "y = BatchNormalization(a, b, c, d, e)",
        "((a.mT - d) / torch.sqrt(e + 1e-5) * b + c).mT",
        a=normal(2, 4, 3),
        b=normal(4),
        c=normal(4),
        d=normal(4),
        e=positive(4),
    ),
    spec(
        "batch 2d",
        "y = BatchNormalization(a, b, c, d, e)",
        "F.batch_norm(a, d, e, b, c)",
        a=normal(3, 4),
        b=normal(4),
        c=normal(4),
        d=normal(4),
        e=positive(4),
        fixed="d e",
    ),
    spec("layer", "y = LayerNormalization(a, b, c)", "F.layer_norm(a, (5,), b, c)", a=x, b=normal(5), c=normal(5)),
    spec(
        "layer 3 axes",
        "y = LayerNormalization<axis = 1, epsilon = 0.01>(a, b, c)",
        "F.layer_norm(a, (6, 3, 5), b, c, eps=0.01)",
        a=x,
        b=normal(6, 3, 5),
        c=normal(6, 3, 5),
    ),
    spec("layer no bias", "y = LayerNormalization<axis = -2>(a, b)", "F.layer_norm(a, (3, 5), b)", a=x, b=normal(3, 5)),
    spec("rms", "y = RMSNormalization(a, b)", "F.rms_norm(a, (5,), b, eps=1e-5)", a=x, b=normal(5), opset=23),
    spec(
        "rms 2 axes",
        "y = RMSNormalization<axis = 2, epsilon = 0.1>(a, b)",
        "F.rms_norm(a, (3, 5), b, eps=0.1)",
        a=x,
        b=normal(3, 5),
        opset=23,
    ),
    spec(
        "group",
        "y = GroupNormalization<num_groups = 3>(a, b, c)",
        "F.group_norm(a, 3, b, c)",
        a=x,
        b=normal(6),
        c=normal(6),
    ),
    spec(
        "group 1d",
        "y = GroupNormalization<num_groups = 2, epsilon = 0.01>(a, b, c)",
        "F.group_norm(a, 2, b, c, eps=0.01)",
        a=normal(3, 4, 5),
        b=normal(4),
        c=normal(4),
    ),
    spec(
        "instance",
        "y = InstanceNormalization(a, b, c)",
        "F.instance_norm(a, weight=b, bias=c)",
        a=x,
        b=normal(6),
        c=normal(6),
    ),
    spec(
        "lrn",
        "y = LRN<size = 3, alpha = 0.3, beta = 0.6, bias = 1.5>(a)",
        "F.local_response_norm(a, 3, 0.3, 0.6, 1.5)",
        a=x,
    ),
    spec("lrn 5", "y = LRN<size = 5, alpha = 1.0>(a)", "F.local_response_norm(a, 5, 1.0)", a=normal(2, 7, 3, 2)),
    spec("lp 2", "y = LpNormalization<axis = 1>(a)", "F.normalize(a, 2.0, 1)", a=x),
    spec("lp 1", "y = LpNormalization<p = 1>(a)", "F.normalize(a, 1.0, -1)", a=x),
]

LOSSES = [
    spec("softmax", "y = Softmax(a)", "F.softmax(a, -1)", a=x * 3),
    spec("softmax axis", "y = Softmax<axis = 1>(a)", "F.softmax(a, 1)", a=x * 3),
    spec("softmax large", "y = Softmax(a)", "F.softmax(a, -1)", a=[[1000.0, 999, -1000], [80, 80, 80]]),
    spec("log softmax", "y = LogSoftmax(a)", "F.log_softmax(a, -1)", a=x * 3),
    spec("log softmax axis", "y = LogSoftmax<axis = 0>(a)", "F.log_softmax(a, 0)", a=x * 3),
    spec("log softmax large", "y = LogSoftmax(a)", "F.log_softmax(a, -1)", a=[[1000.0, 999, -1000], [80, 80, 80]]),
    *(
        spec(
            f"cross entropy {reduction}",
            f'y = SoftmaxCrossEntropyLoss<reduction = "{reduction}">(a, i)',
            f'F.cross_entropy(a, i, reduction="{reduction}")',
            a=scores,
            i=labels,
        )
        for reduction in ("mean", "sum", "none")
    ),
    # torch differentiates no losses by class weights.
    *(
        spec(
            f"cross entropy weights {reduction}",
            f'y = SoftmaxCrossEntropyLoss<reduction = "{reduction}", ignore_index = 1>(a, i, w)',
            f'F.cross_entropy(a, i, w, ignore_index=1, reduction="{reduction}")',
            a=maps,
            i=label_maps,
            w=weights,
            fixed="w",
        )
        for reduction in ("mean", "sum", "none")
    ),
    spec(
        "cross entropy ignored",
        "y = SoftmaxCrossEntropyLoss<ignore_index = -100>(a, i)",
        "F.cross_entropy(a, i)",
        a=scores,
        i=[0, -100, 3, -100, 1],
    ),
    *(
        spec(
            f"nll {reduction}",
            f'y = NegativeLogLikelihoodLoss<reduction = "{reduction}", ignore_index = 2>(a, i, w)',
            f'F.nll_loss(a, i, w, ignore_index=2, reduction="{reduction}")',
            a=maps,
            i=label_maps,
            w=weights,
            fixed="w",
        )
        for reduction in ("mean", "sum", "none")
    ),
    spec("nll", "y = NegativeLogLikelihoodLoss(a, i)", "F.nll_loss(a, i)", a=scores, i=labels),
]
