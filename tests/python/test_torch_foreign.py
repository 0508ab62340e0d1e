"""mseloss.torch with tensors that the kernels do not read: PyTorch's result, or PyTorch's error."""

import pytest

torch = pytest.importorskip("torch")
import mseloss  # noqa: E402
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch.autograd import forward_ad  # noqa: E402
from torch.testing._internal.two_tensor import TwoTensor  # noqa: E402

pytestmark = [pytest.mark.usefixtures("torch_step"), pytest.mark.filterwarnings("ignore")]

REDUCTIONS = ["none", "mean", "sum"]


class Tagged(torch.Tensor):
    """Every function of it returns its type."""


class Untagged(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl


class Handled(torch.Tensor):
    """It implements nothing but mse_loss."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return "handled" if function is F.mse_loss else NotImplemented


class OnlyPyTorch(TwoTensor):
    """A wrapper that knows PyTorch's operators only, as DTensor does."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args, kwargs):
        if function.namespace != "aten":
            raise NotImplementedError(function)
        return super().__torch_dispatch__(function, types, args, kwargs)


def normal(*shape, seed=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def zero_tensor(*shape):
    """Zeros without memory, as autograd makes for the gradient of sgn."""
    if not shape:
        return zero_tensor(1).sum()
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    (zeros,) = torch.autograd.grad(torch.sgn(x).sum(), x)
    assert zeros._is_zerotensor()
    return zeros


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except Exception as error:
        return error


def assert_same(call):
    """Asserts that call(ours) and call(PyTorch's mse_loss) return equal objects, or raise the same error."""
    got, want = outcome(call, face.mse_loss), outcome(call, F.mse_loss)
    if isinstance(want, Exception):
        assert type(got) is type(want), got
        assert str(got)[:60] == str(want)[:60]
        return want
    assert type(got) is type(want), got
    if isinstance(want, str):
        assert got == want
    elif isinstance(want, TwoTensor):
        torch.testing.assert_close((got.a, got.b), (want.a, want.b))
    elif isinstance(want, torch.Tensor) and want.device.type == "meta":
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
    else:
        torch.testing.assert_close(got, want)
    return want


OPERANDS = {
    "zero": lambda: zero_tensor(3, 4),
    "negated": lambda: normal(3, 4)._neg_view(),
    "imaginary part": lambda: torch.complex(normal(3, 4), normal(3, 4, seed=4)).conj().imag,
    "conjugate": lambda: torch.complex(normal(3, 4), normal(3, 4, seed=4)).conj(),
    "complex": lambda: torch.complex(normal(3, 4), normal(3, 4, seed=4)),
    "sparse": lambda: normal(3, 4).to_sparse(),
    "sparse rows": lambda: normal(3, 4).to_sparse_csr(),
    "mkldnn": lambda: normal(3, 4, dtype=torch.float32).to_mkldnn(),
    "quantised": lambda: torch.quantize_per_tensor(normal(3, 4).float(), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([normal(2), normal(3)]),
    "integer": lambda: torch.arange(12).view(3, 4),
    "bool": lambda: normal(3, 4) > 0,
    "meta": lambda: normal(3, 4).to("meta"),
    "tagged": lambda: normal(3, 4).as_subclass(Tagged),
    "untagged": lambda: normal(3, 4).as_subclass(Untagged),
    "handled": lambda: normal(3, 4).as_subclass(Handled),
    "wrapper": lambda: TwoTensor(normal(3, 4), normal(3, 4, seed=4)),
    "PyTorch's wrapper": lambda: OnlyPyTorch(normal(3, 4), normal(3, 4, seed=4)),
    "list": lambda: [1.0, 2.0],
    "number": lambda: 1.0,
    "None": lambda: None,
    "nine dimensions": lambda: normal(1, 1, 1, 1, 1, 1, 1, 3, 4),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", OPERANDS)
def test_operand_gives_pytorchs_result_or_error(name, reduction):
    operand = OPERANDS[name]()
    for pair in (
        (operand, normal(3, 4, seed=5)),
        (normal(3, 4, seed=5), operand),
        (operand, operand),
    ):
        assert_same(lambda mse, pair=pair: mse(*pair, reduction=reduction))
        assert_same(lambda mse, pair=pair: mse(*pair, reduction=reduction, weight=normal(3, 4)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name", ["zero", "negated", "imaginary part", "integer", "nine dimensions"]
)
def test_gradient_beside_such_an_operand_is_pytorchs(name, reduction):
    x = normal(3, 4, seed=5).requires_grad_()
    target = OPERANDS[name]()
    assert_same(
        lambda mse: torch.autograd.grad(mse(x, target, reduction=reduction).sum() * 3, x)[0]
    )


def test_sparse_operands_raise_under_vmap_as_in_pytorch():
    x = torch.stack([normal(3, 4).to_sparse()] * 2)
    assert isinstance(assert_same(lambda mse: torch.vmap(mse)(x, x)), Exception)


def test_a_function_mode_sees_both_functions():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    with Mode():
        face.mse_loss(normal(3), normal(3))
        face.mse_loss(normal(3).as_subclass(Tagged), normal(3))
    assert face.mse_loss in seen
    assert F.mse_loss in seen


# --- grad_output ---

GRAD_OUTPUTS = {
    "plain": lambda g: g,
    "zero": lambda g: zero_tensor(*g.shape),
    "negated": lambda g: g._neg_view(),
    "expanded": lambda g: g.new_full((), 3).expand(g.shape),
    "sparse": lambda g: g.to_sparse(),
    "mkldnn": lambda g: g.float().to_mkldnn() if g.dim() else g.new_zeros(1).float().to_mkldnn(),
    "meta": lambda g: g.to("meta"),
    "tagged": lambda g: g.as_subclass(Tagged),
    "untagged": lambda g: g.as_subclass(Untagged),
    "handled": lambda g: g.as_subclass(Handled),
    "wrapper": lambda g: TwoTensor(g, 2 * g),
    "PyTorch's wrapper": lambda g: OnlyPyTorch(g, 2 * g),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", GRAD_OUTPUTS)
def test_grad_output_gives_pytorchs_gradient_or_error(name, reduction, create_graph):
    x, y = normal(3, 4).requires_grad_(), normal(3, 4, seed=5).requires_grad_()
    g = GRAD_OUTPUTS[name](
        normal(3, 4, seed=6) if reduction == "none" else torch.tensor(3.0).double()
    )

    def gradient(mse, *wanted):
        loss = mse(x, y, reduction=reduction)
        return torch.autograd.grad(loss, wanted, g, create_graph=create_graph)[-1]

    assert_same(lambda mse: gradient(mse, x))
    assert_same(lambda mse: gradient(mse, x, y))


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_dual_grad_output_keeps_its_tangent(reduction):
    x, y = torch.tensor([1.0, 2, 3], requires_grad=True), torch.zeros(3)
    loss = face.mse_loss(x, y, reduction=reduction)
    with forward_ad.dual_level():
        g = forward_ad.make_dual(torch.ones_like(loss), torch.full_like(loss, 10))
        gradient = forward_ad.unpack_dual(torch.autograd.grad(loss, x, g)[0])
    assert gradient.primal.tolist() == [2, 4, 6]
    assert gradient.tangent.tolist() == [20, 40, 60]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap_over_the_backward_pass_of_an_eager_graph(reduction):
    x, y = normal(4, 3).requires_grad_(), normal(4, 3, seed=5)

    def rows(mse, retain):
        losses = mse(x, y, reduction=reduction)
        g = normal(5, *losses.shape, seed=6)
        return torch.vmap(lambda v: torch.autograd.grad(losses, x, v, retain_graph=retain)[0])(g)

    assert assert_same(lambda mse: rows(mse, True)).shape == (5, 4, 3)
    assert_same(lambda mse: rows(mse, False))


def test_vmap_over_the_backward_pass_has_the_bits_of_a_loop():
    x = normal(1000, dtype=torch.float16).requires_grad_()
    y = normal(1000, seed=5, dtype=torch.float16)
    loss, g = face.mse_loss(x, y), torch.tensor([1.0, 1024.0, 3.0], dtype=torch.float16)

    def pull(v):
        return torch.autograd.grad(loss, x, v, retain_graph=True)[0]

    assert torch.equal(torch.vmap(pull)(g), torch.stack([pull(v) for v in g]))


def test_dispatch_modes_see_the_operator_of_the_backward_pass():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    x = normal(5).requires_grad_()
    loss = face.mse_loss(x, normal(5, seed=5))
    with Mode():
        loss.backward()
    assert torch.ops.mseloss.mse_loss_backward.default in seen


# --- what autograd saves ---


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_saved_tensor_hooks_decide_what_the_backward_pass_reads(reduction):
    x, y = normal(3, 4).requires_grad_(), normal(3, 4, seed=5)

    def gradient(mse):
        with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.half, torch.Tensor.double):
            loss = mse(x, y, reduction=reduction)
        return torch.autograd.grad(loss.sum(), x)[0]

    rounded = assert_same(gradient)
    assert not torch.equal(
        rounded, torch.autograd.grad(F.mse_loss(x, y, reduction=reduction).sum(), x)[0]
    )


def test_with_hooks_the_forward_pass_computes_no_gradient():
    from mseloss import memory

    x, y = torch.randn(1 << 20, requires_grad=True), torch.randn(1 << 20)
    memory.trim()
    before = memory.usage()["live_blocks"]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        loss = face.mse_loss(x, y)
    assert memory.usage()["live_blocks"] == before
    loss.backward()
    assert torch.equal(x.grad, torch.autograd.grad(face.mse_loss(x, y), x)[0])


# --- out= of the array functions ---


def out_calls():
    x, y = torch.ones(3), torch.zeros(3)
    return [
        lambda out: mseloss.grad(1.0, x, y, out=out),
        lambda out: mseloss.loss(x, y, "none", out=out),
        lambda out: mseloss.loss_and_grad(x, y, out=out),
    ]


@pytest.mark.parametrize("call", out_calls(), ids=["grad", "loss", "loss_and_grad"])
def test_out_tells_autograd_that_it_writes(call):
    x = torch.ones(3, requires_grad=True)
    saved = x * 2
    loss = (saved * saved).sum()
    out = saved.detach()
    version = out._version
    call(out)
    assert out._version == version + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("call", out_calls(), ids=["grad", "loss", "loss_and_grad"])
def test_out_that_requires_grad_is_refused_while_grad_mode_is_enabled(call):
    leaf = torch.full((3,), 7.0, requires_grad=True)
    for out in (leaf, leaf[:], leaf * 1):
        with pytest.raises(RuntimeError, match="out: expected a tensor that does not require grad"):
            call(out)
        assert out.tolist() == [7, 7, 7]
    with torch.no_grad():
        call(leaf)
    assert leaf.tolist() != [7, 7, 7]
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.sub(torch.ones(3), 0, out=leaf)


@pytest.mark.parametrize("grad_mode", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("call", out_calls(), ids=["grad", "loss", "loss_and_grad"])
def test_out_with_a_tangent_is_refused_as_in_pytorch(call, grad_mode):
    from torch.autograd import forward_ad

    with forward_ad.dual_level(), torch.set_grad_enabled(grad_mode):
        out = forward_ad.make_dual(torch.full((3,), 7.0), torch.ones(3))
        with pytest.raises(NotImplementedError, match=r"^out: expected a tensor without a tangent"):
            call(out)
        assert out.tolist() == [7, 7, 7]
        with pytest.raises(NotImplementedError, match="forward AD"):
            torch.sub(torch.ones(3), 0, out=out)
        plain = torch.full((3,), 7.0)
        call(plain)
        assert plain.tolist() != [7, 7, 7]


def fake():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        return torch.empty(3)


def freed():
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    return tensor


def wrapper():
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("make", [fake, freed, wrapper])
def test_tensors_without_memory_are_named(make, capfd):
    tensor, other = make(), torch.zeros(3)
    words = f"expected a tensor with memory of its own, got a {type(tensor).__name__} without any$"
    with pytest.raises(TypeError, match=f"^input: {words}"):
        mseloss.loss(tensor, other)
    with pytest.raises(TypeError, match=f"^target: {words}"):
        mseloss.grad(1.0, other, tensor)
    with pytest.raises(TypeError, match=f"^out: {words}"):
        mseloss.loss(other, other, "none", out=tensor)
    assert capfd.readouterr().err == ""


def test_functional_tensors_are_named():
    call = torch.func.functionalize(lambda a: mseloss.loss(a, torch.zeros(3)))
    with pytest.raises(TypeError, match=r"^input: expected a tensor with memory of its own"):
        call(torch.ones(3))


@pytest.mark.parametrize("requires_grad", [False, True])
def test_freed_tensors_raise_the_same_in_both_steps(requires_grad):
    x = torch.ones(3, requires_grad=requires_grad)
    with pytest.raises(TypeError, match=r"^target: expected a tensor with memory of its own"):
        face.mse_loss(x, freed())
    with pytest.raises(TypeError, match=r"^input: expected a tensor with memory of its own"):
        face.mse_loss(freed().requires_grad_(requires_grad), x)
    y = torch.zeros(3)
    loss = face.mse_loss(torch.ones(3, requires_grad=True), y, reduction="none")
    y.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match=r"^target: expected a tensor with memory of its own"):
        loss.sum().backward()


def test_a_refused_call_with_out_changes_no_version():
    out = torch.zeros(4)
    with pytest.raises(ValueError, match="broadcast shape"):
        mseloss.grad(1.0, torch.ones(3), torch.zeros(3), out=out)
    assert out._version == 0


def test_out_and_inference_tensors():
    with torch.inference_mode():
        out = torch.zeros(3)
        mseloss.grad(1.0, torch.ones(3), torch.zeros(3), out=out)
    assert out.sum() == 2
    with pytest.raises(
        RuntimeError, match="out: expected a normal tensor, because inference mode is disabled"
    ):
        mseloss.grad(1.0, torch.ones(3), torch.zeros(3), out=out)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_array_functions_read_zero_tensors(reduction):
    zeros, y = zero_tensor(3, 4), normal(3, 4)
    for a, b in ((zeros, y), (y, zeros)):
        assert torch.equal(
            mseloss.loss(a, b, reduction), mseloss.loss(a.clone(), b.clone(), reduction)
        )
        assert torch.equal(
            mseloss.grad(2.0, a, b, reduction), mseloss.grad(2.0, a.clone(), b.clone(), reduction)
        )
    assert not mseloss.grad(zero_tensor(1), y, y + 1).any()
    with pytest.raises(TypeError, match="out: expected a tensor with memory, got a zero tensor"):
        mseloss.grad(1.0, y, y, out=zeros)


# --- DTensor ---


def test_distributed_tensors():
    from torch import distributed
    from torch.distributed.tensor import DeviceMesh, Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        x, y = (distribute_tensor(normal(4, 4, seed=s), mesh, [Shard(0)]) for s in (3, 4))
        x.requires_grad_()
        results = []
        for mse in (face.mse_loss, F.mse_loss):
            loss = mse(x, y)
            results.append((loss.full_tensor(), torch.autograd.grad(loss, x)[0].full_tensor()))
        torch.testing.assert_close(*results)
    finally:
        distributed.destroy_process_group()
