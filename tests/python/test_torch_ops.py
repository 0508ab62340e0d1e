"""torch.ops.mseloss with PyTorch's checkers, compiler, transforms and test samples."""

import pytest

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Using a target size"),
]

REDUCTIONS = ["none", "mean", "sum"]


def pair(a=(3, 4), b=(3, 4), dtype=torch.float32, requires_grad=True):
    generator = torch.Generator().manual_seed(11)
    return [
        torch.randn(shape, generator=generator).to(dtype).requires_grad_(requires_grad)
        for shape in (a, b)
    ]


@pytest.mark.parametrize("how", REDUCTIONS)
@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2,)), ((0,), (0,))], ids=str
)
def test_opcheck_loss(how, a, b):
    if 0 in a and how == "mean":
        pytest.skip("opcheck takes NaN for a difference")
    for dtype in (torch.float32, torch.bfloat16):
        torch.library.opcheck(torch.ops.mseloss.mse_loss, (*pair(a, b, dtype), how))
    x, y = pair(a, b)
    torch.library.opcheck(torch.ops.mseloss.mse_loss, (x.detach().double(), y.detach(), how))


@pytest.mark.parametrize("count", [0, 12])
def test_opcheck_backward(count):
    for g in (torch.tensor(2.0), torch.randn(3, 4)):
        arguments = (g.requires_grad_(), *pair(), count)
        torch.library.opcheck(torch.ops.mseloss.mse_loss_backward, arguments)
    torch.library.opcheck(
        torch.ops.mseloss.mse_loss_backward, (torch.tensor(2.0), *pair((3, 1), (4,)), count)
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_a_graph_break_has_eager_bits(dynamic):
    torch._dynamo.reset()

    def compute(x, y, how):
        return face.mse_loss(x * 2, y, reduction=how).sum() * 3

    compiled = torch.compile(compute, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for how in REDUCTIONS:
        for shape in ((30,), (41,)):
            x, y = pair(shape, shape)
            expected = torch.autograd.grad(compute(x, y, how), (x, y))
            got = torch.autograd.grad(compiled(x, y, how), (x, y))
            assert all(torch.equal(p, q) for p, q in zip(got, expected, strict=True))


def test_compile_by_inductor_of_a_module():
    torch._dynamo.reset()
    module = torch.nn.Sequential(torch.nn.Linear(4, 2))
    loss = face.MSELoss()
    step = torch.compile(lambda x, y: loss(module(x), y), fullgraph=True)
    x, y = torch.randn(8, 4), torch.randn(8, 2)
    value = step(x, y)
    value.backward()
    expected = F.mse_loss(module(x), y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        [p.grad for p in module.parameters()],
        list(torch.autograd.grad(expected, list(module.parameters()))),
    )


def test_export():
    class Model(torch.nn.Module):
        def forward(self, x, y):
            return face.mse_loss(x, y)

    x, y = pair(requires_grad=False)
    program = torch.export.export(Model(), (x, y))
    assert "mseloss.mse_loss" in str(program.graph)
    assert torch.equal(program.module()(x, y), face.mse_loss(x, y))


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, y = torch.empty(3, 1, dtype=torch.bfloat16), torch.empty(4)
        assert face.mse_loss(x, y).shape == ()
        assert face.mse_loss(x, y, reduction="none").shape == (3, 4)
        assert face.mse_loss(x, y).dtype == torch.float32


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_func_transforms_agree_with_pytorch(how):
    x, y = pair((5, 3), (5, 3), torch.float64, requires_grad=False)

    def both(transform, *operands):
        return [
            transform(lambda a, b, call=call: call(a, b, reduction=how))(*operands)
            for call in (face.mse_loss, F.mse_loss)
        ]

    func = torch.func
    for transform in (
        func.grad,
        lambda f: func.grad(f, argnums=(0, 1)),
        func.hessian,
        func.jacrev,
        func.jacfwd,
        func.vmap,
        lambda f: func.vmap(func.grad(f)),
        lambda f: func.vmap(func.grad(f), in_dims=(1, 1)),
        lambda f: func.vmap(func.hessian(f)),
        lambda f: func.vmap(f, in_dims=(0, None)),
        lambda f: func.grad(lambda a, b: func.vmap(f)(a, b).pow(2).sum()),
    ):
        if transform is not None:
            operands = (x, y)
            torch.testing.assert_close(*both(transform, *operands))
    tangents = (torch.ones_like(x), x)
    torch.testing.assert_close(*both(lambda f: lambda a, b: func.jvp(f, (a, b), tangents), x, y))


def test_vmap_without_reduction_and_with_broadcasting():
    x, y = pair((5, 3, 1), (4,), torch.float64, requires_grad=False)
    for call in (face.mse_loss, F.mse_loss):
        whole = call(x, y, reduction="none")
        mapped = torch.func.vmap(lambda a, call=call: call(a, y, reduction="none"))(x)
        assert torch.equal(mapped, whole)


def test_vmap_has_the_bits_of_a_loop():
    x, y = pair((6, 1000), (6, 1000), torch.float16, requires_grad=False)
    mapped = torch.func.vmap(face.mse_loss)(x, y)
    assert torch.equal(
        mapped, torch.stack([face.mse_loss(a, b) for a, b in zip(x, y, strict=True)])
    )


def test_the_operators_differentiate_without_the_front():
    x, y = pair(dtype=torch.float64)
    for how in REDUCTIONS:
        assert torch.autograd.gradgradcheck(
            lambda a, b, how=how: torch.ops.mseloss.mse_loss(a, b, how), (x, y)
        )


def opinfo():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        methods = pytest.importorskip("torch.testing._internal.common_methods_invocations")
    (found,) = (op for op in methods.op_db if op.name == "nn.functional.mse_loss")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str
)
def test_pytorchs_own_samples(dtype):
    op, count = opinfo(), 0
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=True))
    samples += list(op.reference_inputs("cpu", dtype, requires_grad=True))
    for sample in samples:
        count += 1
        operands = [sample.input, *sample.args]
        tensors = [t for t in (*operands, *sample.kwargs.values()) if isinstance(t, torch.Tensor)]
        tensors = [t for t in tensors if t.requires_grad]
        ours = face.mse_loss(*operands, **sample.kwargs)
        theirs = F.mse_loss(*operands, **sample.kwargs)
        half = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 1e-5} if dtype.itemsize == 2 else {}
        torch.testing.assert_close(
            ours, theirs, **half
        )  # PyTorch rounds half types after every operation
        assert ours.requires_grad == theirs.requires_grad
        if ours.requires_grad:
            got = torch.autograd.grad(ours.sum(), tensors, retain_graph=True)
            want = torch.autograd.grad(theirs.sum(), tensors, retain_graph=True)
            torch.testing.assert_close(got, want, **half)
        if dtype == torch.float64 and tensors:

            def call(*given, sample=sample, operands=operands, tensors=tensors):
                swap = dict(zip(map(id, tensors), given, strict=True))
                arguments = [swap.get(id(t), t) for t in operands]
                keywords = {k: swap.get(id(v), v) for k, v in sample.kwargs.items()}
                return face.mse_loss(*arguments, **keywords)

            assert torch.autograd.gradcheck(call, tensors, fast_mode=True)
            assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)
    assert count >= 6
