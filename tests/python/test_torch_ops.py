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


def test_compile_with_sizes_that_differ_warns_as_it_traces():
    x, y = pair((6, 5), (5,), requires_grad=False)
    for dynamic in (False, True):
        torch._dynamo.reset()
        compiled = torch.compile(
            face.mse_loss, fullgraph=True, backend="aot_eager", dynamic=dynamic
        )
        with pytest.warns(UserWarning, match="Using a target size"):
            assert torch.equal(compiled(x, y), face.mse_loss(x, y))


def test_compile_of_vmap_with_sizes_that_differ():
    torch._dynamo.reset()
    x, y = pair((6, 5), (5,), requires_grad=False)
    mapped = torch.vmap(face.mse_loss, (0, None))
    with pytest.warns(UserWarning, match="Using a target size"):
        compiled = torch.compile(mapped, fullgraph=True, backend="eager")(x[:, None], y)
    assert torch.equal(compiled, mapped(x[:, None], y))


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize("arguments", [(False, None), (None, False), (True, True)], ids=str)
def test_compile_with_deprecated_arguments(arguments):
    torch._dynamo.reset()
    x, y = pair(requires_grad=False)
    compiled = torch.compile(
        lambda a, b: face.mse_loss(a, b, *arguments), fullgraph=True, backend="eager"
    )
    assert torch.equal(compiled(x, y), face.mse_loss(x, y, *arguments))


@pytest.mark.filterwarnings("ignore:reduction='elementwise_mean'")
def test_compile_with_elementwise_mean():
    torch._dynamo.reset()
    compiled = torch.compile(face.mse_loss, fullgraph=True, backend="eager")
    x, y = pair(requires_grad=False)
    assert torch.equal(compiled(x, y, reduction="elementwise_mean"), face.mse_loss(x, y))
    with pytest.raises(Exception, match="most is not a valid value for reduction"):
        compiled(x, y, reduction="most")


@pytest.mark.parametrize("how", REDUCTIONS)
def test_compile_with_transforms_inside(how):
    x, y = pair((5, 3), (5, 3), torch.float64, requires_grad=False)
    func = torch.func

    def loss(mse):
        return lambda a, b: mse(a, b, reduction=how).sum() ** 2

    for transform in (
        func.grad,
        func.hessian,
        func.jacfwd,
        lambda f: func.vmap(func.grad(f)),
        lambda f: lambda a, b: func.jvp(f, (a, b), (b, a))[1],
    ):
        torch._dynamo.reset()
        compiled = torch.compile(
            transform(loss(face.mse_loss)), fullgraph=True, backend="aot_eager"
        )
        torch.testing.assert_close(compiled(x, y), transform(loss(F.mse_loss))(x, y))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_autograd(backend):
    """The backward pass of eager graphs, compiled as a whole and reused with other values and sizes."""
    torch._dynamo.reset()
    compiler = torch.compile(fullgraph=True, backend=backend)
    for n, factor in ((5, 3), (5, 1), (7, 2)):
        for how in REDUCTIONS:
            x, y = pair((n,), (n,), torch.float64)
            want = torch.autograd.grad(F.mse_loss(x, y, reduction=how).sum() * factor, (x, y))
            loss = face.mse_loss(x, y, reduction=how).sum() * factor
            with torch._dynamo.compiled_autograd._enable(compiler):
                loss.backward()
            torch.testing.assert_close((x.grad, y.grad), want)


@pytest.mark.parametrize("options", [{}, {"dim": 0}])
def test_compiled_autograd_passes_a_gradient_that_is_not_there(options):
    """An absent upstream gradient is an absent gradient of the operands, as in PyTorch's own nodes."""

    class First(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.set_materialize_grads(False)
            return a.clone(), b.clone()

        @staticmethod
        def backward(ctx, of_a, of_b):
            return of_a, of_b

    torch._dynamo.reset()
    x, y = pair((3,), (3,), torch.float64)
    other = torch.ones(3, requires_grad=True)
    _, passed = First.apply(face.mse_loss(x, y.detach(), **options), other)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        passed.sum().backward()
    assert x.grad is None
    assert torch.equal(other.grad, torch.ones(3))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr")  # by linearize()
@pytest.mark.parametrize("how", REDUCTIONS)
def test_forward_mode_may_be_traced(how):
    """PyTorch's linearize() traces the tangent; the kernels run below a dispatch mode."""
    x, y = pair((2, 3), (2, 3), torch.float64, requires_grad=False)
    tangent = torch.randn_like(x)

    def loss(a):
        return face.mse_loss(a, y, reduction=how)

    value, linear = torch.func.linearize(loss, x)
    want = torch.func.jvp(loss, (x,), (tangent,))
    torch.testing.assert_close((value, linear(tangent)), want)
    gradient, linear = torch.func.linearize(torch.func.grad(lambda a: loss(a).sum()), x)
    want = torch.func.jvp(torch.func.grad(lambda a: loss(a).sum()), (x,), (tangent,))
    torch.testing.assert_close((gradient, linear(tangent)), want)


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


def test_derivatives_of_0_dimensional_samples_keep_their_dtype():
    """Python numbers as factors lose their weak type in such a composition."""
    x, y = pair((3,), (3,))
    gradient = torch.func.grad(lambda b: torch.vmap(face.mse_loss)(x, b).sum())(y)
    _, tangent = torch.func.jvp(
        lambda v: torch.autograd.grad(gradient, x, v, retain_graph=True)[0],
        *((torch.ones(3),),) * 2,
    )
    assert tangent.dtype == torch.float32


def test_nested_forward_mode_keeps_every_term():
    x, y = pair((4,), (4,), torch.float64, requires_grad=False)

    def second(mse):
        return torch.func.jacfwd(torch.func.jacfwd(lambda a: mse(a, y) ** 2))(x)

    torch.testing.assert_close(second(face.mse_loss), second(F.mse_loss))


@pytest.mark.parametrize("how", REDUCTIONS)
def test_vmap_over_no_samples(how):
    x, y = pair((0, 4), (0, 4))
    got, want = (
        torch.vmap(lambda a, b, mse=mse: mse(a, b, reduction=how))(x, y)
        for mse in (face.mse_loss, F.mse_loss)
    )
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert torch.autograd.grad(got.sum(), x)[0].shape == (0, 4)
    per_sample = torch.vmap(torch.func.grad(lambda a, b: face.mse_loss(a, b, reduction=how).sum()))
    assert per_sample(x.detach(), y.detach()).shape == (0, 4)


@pytest.mark.parametrize("how", REDUCTIONS)
@pytest.mark.parametrize("batches", [1, 2])
def test_vmap_over_operands_of_eight_dimensions(how, batches):
    """The operators get nine or ten dimensions, and must merge some of them."""
    shape = (2, 1, 3, 2, 1, 2, 2, 2)
    x = pair((3, 2)[:batches] + shape, requires_grad=False, dtype=torch.float64)[0]
    y = pair((3, 2)[:batches] + shape[::-1], requires_grad=False, dtype=torch.float64)[0]
    y = y.permute(
        *range(batches), *reversed(range(batches, x.dim()))
    )  # no two of its dimensions merge

    def loss(a, b):
        return face.mse_loss(a, b, reduction=how)

    def gradient(a, b):
        return torch.func.grad(lambda a: loss(a, b).sum())(a)

    for f in (loss, gradient):
        whole = f
        for _ in range(batches):
            whole = torch.vmap(whole)
        flat = [t.reshape(-1, *shape) for t in (x, y)]
        want = torch.stack([f(a, b) for a, b in zip(*flat, strict=True)])
        assert torch.equal(whole(x, y), want.view(x.shape[:batches] + want.shape[1:]))
    one = torch.vmap(lambda a: loss(a, y[(0,) * batches]))(x.flatten(0, batches - 1))
    assert torch.equal(one[0], loss(x[(0,) * batches], y[(0,) * batches]))


@pytest.mark.parametrize("how", REDUCTIONS)
def test_operators_take_any_number_of_dimensions(how):
    shapes = (2, 1, 2, 1, 2, 1, 2, 1, 2, 3), (2, 2, 1, 2, 2, 1, 2, 1, 1)
    x, y = pair(*shapes, torch.float64)
    want = F.mse_loss(x, y, reduction=how)
    torch.testing.assert_close(torch.ops.mseloss.mse_loss(x, y, how), want)
    got = torch.autograd.grad(torch.ops.mseloss.mse_loss(x, y, how).sum(), (x, y))
    torch.testing.assert_close(got, torch.autograd.grad(want.sum(), (x, y)))


def test_functionalize():
    x, y = pair((5, 3), (5, 3), requires_grad=False)
    func = torch.func
    for how in REDUCTIONS:

        def loss(a, b, how=how):
            return face.mse_loss(a, b, reduction=how)

        assert torch.equal(func.functionalize(loss)(x, y), loss(x, y))
        gradient = func.grad(lambda a, b, loss=loss: loss(a, b).sum())
        assert torch.equal(func.functionalize(gradient)(x, y), gradient(x, y))


def test_the_operators_differentiate_without_the_front():
    x, y = pair(dtype=torch.float64)
    for how in REDUCTIONS:
        assert torch.autograd.gradgradcheck(
            lambda a, b, how=how: torch.ops.mseloss.mse_loss(a, b, how), (x, y)
        )
