"""torch.func and forward mode: every transform of an operator is that of its equation, in
float64.
"""

from __future__ import annotations

import pytest
import torch
from oracle import by_the_equations
from strategies import normal
from torch.autograd import forward_ad, functional
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree

import aea_kernels as aea
from aea_kernels import reference

QKV = [normal(2, 2, 4, 3, seed=1), normal(2, 2, 5, 3, seed=2), normal(2, 2, 5, 2, seed=3)]
SQUARE = [normal(2, 2, 4, 3, seed=i) for i in range(3)]
REFERENCES = [normal(2, 2, 3, seed=4), normal(2, 2, 2, seed=5)]


def moments_by_definition(x):
    flat = torch.cat([x.flatten(2), torch.ones_like(x.flatten(2)[:, :1])], 1)
    return flat @ flat.mT


def block_of(norm, **options):
    """The block as a function of x and its parameters, and their values."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(4, references=3, norm=norm, groups=2, **options).double().eval()
    parameters = {name: torch.randn_like(p) for name, p in block.named_parameters()}
    if norm == "batch":
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2)

    def function(x, *values):
        return functional_call(block, dict(zip(parameters, values, strict=True)), (x,))

    return function, [normal(3, 4, 2, 3, seed=6), *parameters.values()]


def by_definition(function):
    def run(*arguments):
        with by_the_equations():
            return function(*arguments)

    return run


CASES = {
    "self": (aea.linear_attention, reference.linear_attention, QKV),
    "references": (aea.reference_attention, reference.reference_attention, [*QKV, *REFERENCES]),
    "batch": (aea.batch_attention, reference.batch_attention, QKV),
    "learned query": (
        aea.learned_query_attention,
        reference.learned_query_attention,
        [normal(2, 4, 3), *QKV[1:]],
    ),
    "moments": (lambda x: aea.moments(x).gram, moments_by_definition, [normal(2, 3, 2, 2)]),
    "relu": (aea.relu_linear_attention, reference.relu_linear_attention, QKV),
    "softmax": (aea.efficient_attention, reference.efficient_attention, [*QKV, *REFERENCES]),
    "channels": (
        aea.channel_attention,
        reference.channel_attention,
        [*SQUARE, normal(2, seed=7).exp()],
    ),
}
for _norm in ("batch", "group", "layer", "rms"):
    _block, _inputs = block_of(_norm)
    CASES[f"block with norm {_norm}"] = _block, by_definition(_block), _inputs


def scalar(function):
    return lambda *inputs: function(*inputs).pow(3).sum()


def stacked(inputs, axis=0):
    return [torch.stack([t, 2 * t, t - 0.5], min(axis, t.dim())) for t in inputs]


def dual(function, inputs):
    with forward_ad.dual_level():
        return tuple(
            forward_ad.unpack_dual(function(*(forward_ad.make_dual(t, t.cos()) for t in inputs)))
        )


def batched_gradients(function, inputs):
    """vmap over the backward pass of an ordinary graph."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    y = function(*leaves)
    directions = torch.stack([y.detach().sin(), y.detach().cos()])
    return vmap(lambda direction: torch.autograd.grad(y, leaves, direction, retain_graph=True))(
        directions
    )


def all_of(inputs):
    return tuple(range(len(inputs)))


TRANSFORMS = {
    "vmap": lambda f, t: vmap(f)(*stacked(t)),
    "vmap of the first": lambda f, t: vmap(f, in_dims=(-1, *[None] * (len(t) - 1)))(
        torch.stack([t[0], 2 * t[0]], -1), *t[1:]
    ),
    "vmap of the last": lambda f, t: vmap(f, in_dims=(*[None] * (len(t) - 1), 1), out_dims=1)(
        *t[:-1], torch.stack([t[-1], 2 * t[-1]], 1)
    ),
    "vmap of vmap": lambda f, t: vmap(vmap(f), in_dims=1)(
        *(torch.stack([s, -s], 1) for s in stacked(t))
    ),
    "jvp": lambda f, t: jvp(f, tuple(t), tuple(s.cos() for s in t)),
    "vjp": lambda f, t: vjp(f, *t)[1](f(*t)),
    "grad": lambda f, t: grad(scalar(f), all_of(t))(*t),
    "jacrev": lambda f, t: jacrev(f, all_of(t))(*t),
    "jacfwd": lambda f, t: jacfwd(f, all_of(t))(*t),
    "hessian": lambda f, t: hessian(scalar(f), all_of(t)[:2])(*t),
    "forward over forward": lambda f, t: jacfwd(jacfwd(scalar(f)))(*t),
    "reverse over forward": lambda f, t: jacrev(jacfwd(scalar(f)))(*t),
    "gradients of each sample": lambda f, t: vmap(grad(scalar(f), all_of(t)))(*stacked(t)),
    "dual numbers": dual,
    "vmap of a backward pass": batched_gradients,
    "torch.autograd's jacobian": lambda f, t: functional.jacobian(f, tuple(t), vectorize=True),
    "torch.autograd's jacobian, forward": lambda f, t: functional.jacobian(
        f, tuple(t), vectorize=True, strategy="forward-mode"
    ),
    "torch.autograd's hessian": lambda f, t: functional.hessian(
        lambda first: scalar(f)(first, *t[1:]), t[0], vectorize=True
    ),
}
TORCH_FAILS = {
    ("block with norm group", "torch.autograd's hessian")
}  # of torch.group_norm by itself too
INTERPRETED = {
    ("self", "vmap"),
    ("self", "jvp"),
    ("references", "gradients of each sample"),
    ("moments", "hessian"),
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch.*"
)  # of torch.jit, with which torch.func is made
@pytest.mark.parametrize("name", CASES)
def test_a_transform_is_that_of_the_equation(backend, name):
    ours, equation, inputs = CASES[name]
    for transform, apply in TRANSFORMS.items():
        if (name, transform) in TORCH_FAILS or (
            backend == "triton" and (name, transform) not in INTERPRETED
        ):
            continue
        found, expected = (pytree.tree_leaves(apply(f, inputs)) for f in (ours, equation))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(
                a, b, rtol=1e-9, atol=1e-9, msg=lambda text, at=transform: f"{at}: {text}"
            )


def test_gradients_of_each_sample_are_those_of_the_samples_alone(backend):
    """As one computes them for a network: one set of parameters, an image at a time."""
    if backend == "triton":
        pytest.skip("in the interpreter the transforms of one block are enough")
    function, (x, *parameters) = block_of("batch")
    loss = lambda parameters, image: function(image[None], *parameters).square().sum()  # noqa: E731
    together = vmap(grad(loss), in_dims=(None, 0))(tuple(parameters), x)
    for i, image in enumerate(x):
        leaves = [p.clone().requires_grad_() for p in parameters]
        alone = torch.autograd.grad(loss(leaves, image), leaves)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-9, atol=1e-9)


def test_training_as_a_function(backend):
    """BN takes its statistics from the batch, and moves its running statistics where they are
    arguments.
    """
    if backend == "triton":
        pytest.skip("in the interpreter the transforms of one block are enough")
    torch.manual_seed(0)
    block = aea.AugmentedAttention(4, references=3).double().train()
    values = {name: t.detach().clone() for name, t in block.state_dict().items()}
    x = normal(4, 4, 3, 3)

    def loss(parameters, buffers):
        return functional_call(block, {**parameters, **buffers}, (x,)).square().sum()

    names = dict(block.named_parameters())
    parameters = {name: values[name] for name in names}
    buffers = {name: t for name, t in values.items() if name not in names}
    found = grad(loss)(parameters, buffers)
    block.load_state_dict({name: t.clone() for name, t in block.state_dict().items()})
    block(x).square().sum().backward()
    for name, parameter in names.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(buffers["norm.running_mean"], block.norm.running_mean)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "rms", None])
def test_derivatives_reach_x_and_the_parameters_where_keys_are_set(backend, norm):
    """Of two halves of an image, each attends to the keys of both; those are constants."""
    if backend == "triton":
        pytest.skip("the derivatives are computed in plain operations, whatever the backend")
    torch.manual_seed(0)
    block = aea.AugmentedAttention(4, references=3, norm=norm, groups=2).double().eval()
    x = normal(2, 4, 3, 4)
    block.keys = keys = block.moments(x)
    parameters = {name: p.detach() for name, p in block.named_parameters()}

    def function(x, *values):
        return functional_call(block, dict(zip(parameters, values, strict=True)), (x,))

    inputs = [
        x[..., :2].clone().requires_grad_(),
        *(p.clone().requires_grad_() for p in parameters.values()),
    ]
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    with torch.no_grad():
        torch.testing.assert_close(block(x[..., :2]), function(*inputs), rtol=1e-9, atol=1e-9)
    block.keys = aea.Moments(keys.gram.clone().requires_grad_())
    assert torch.autograd.grad(block(x).sum(), block.keys.gram)[0].abs().sum() > 0


def test_a_compiled_function_is_transformed_too(backend):
    """vmap, within what is compiled."""
    if backend == "triton":
        pytest.skip("what is compiled does not depend on the backend")
    inputs = stacked(QKV)
    compiled = torch.compile(vmap(aea.linear_attention), backend="eager")
    torch.testing.assert_close(
        compiled(*inputs), vmap(reference.linear_attention)(*inputs), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", ["self", "moments", "relu", "softmax", "channels"])
def test_autocast_stays_outside(name):
    """Of transforms, of a backward pass that has derivatives, and of the oracle."""
    function, _, inputs = CASES[name]
    inputs = tuple(t.float() for t in inputs)

    def results():
        leaves = [t.clone().requires_grad_() for t in inputs]
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        word_for_word = by_definition(function)(*inputs)
        return [
            *first,
            word_for_word,
            jvp(function, inputs, inputs)[1],
            vmap(function)(*(t[None] for t in inputs)),
        ]

    expected = results()
    with torch.autocast(inputs[0].device.type, torch.bfloat16):
        found = results()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
