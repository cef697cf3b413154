"""Moving: `.to` and its forms, what is the same object, and what tensors and modules say of themselves."""

import copy
import pickle

import torch
from torch import nn

from .table import CPU, CUDA0, CUDA1, Table, exactly

TABLE = Table("Moving, and where things are")

TABLE.add(
    CUDA0,
    'cpu.to("cuda").device',
    'cpu.to("cuda:0").device',
    "cpu.to(0).device",
    'cpu.to(torch.device("cuda")).device',
    'cpu.to(device="cuda", non_blocking=True).device',
    'cpu.to("cuda", torch.half).device',
    "cpu.to(gpu).device",
    "cpu.cuda().device",
    "cpu.cuda(0).device",
    'cpu.cuda("cuda:0").device',
    'cpu.type("torch.cuda.FloatTensor").device',
    "gpu.half().device",
    "gpu.clone().device",
    "gpu_square[1:].device",
    "gpu_square.view(-1).device",
    "gpu.copy_(cpu).device",
    "gpu.unbind()[0].device",
    "gpu.untyped_storage().device",
)
TABLE.add(
    CUDA1,
    "gpu.to('cuda:1').device",
    "gpu.cuda(1).device",
    "cpu.cuda(torch.device('cuda:1')).device",
    "gpu1.half().device",
)
TABLE.add(
    CPU,
    "gpu.cpu().device",
    'gpu.to("cpu").device',
    "cpu.copy_(gpu).device",
    'gpu.type("torch.FloatTensor").device',
)
TABLE.add(
    True,
    'gpu.to("cuda") is gpu',
    'gpu.to("cuda:0") is gpu',
    "gpu.to(0) is gpu",
    "gpu.to() is gpu",
    "gpu.to(torch.float32) is gpu",
    'gpu.to("cuda", torch.float32) is gpu',
    "gpu.to(gpu) is gpu",
    "gpu.cuda() is gpu",
    "gpu.cuda(0) is gpu",
    "gpu.float() is gpu",
    "gpu.contiguous() is gpu",
    "cpu.cpu() is cpu",
    "gpu.is_cuda",
    "cpu.cuda().is_cuda",
    "isinstance(gpu, torch.Tensor)",
    "isinstance(gpu, torch.cuda.FloatTensor)",
    "isinstance(nn.Linear(1, 1).cuda().weight, nn.Parameter)",
    "type(gpu) is torch.Tensor",
    "type(nn.Linear(1, 1).cuda().weight) is nn.Parameter",
    "gpu.data_ptr() != 0",
    "gpu.is_shared()",
)
TABLE.add(
    False,
    'gpu.to("cuda", copy=True) is gpu',
    "gpu.to(torch.half) is gpu",
    "gpu.cpu() is gpu",
    "gpu.to('cuda:1') is gpu",
    "gpu.detach() is gpu",
    "cpu.is_cuda",
    "gpu.is_cpu",
    "gpu.is_meta",
    "isinstance(gpu, torch.FloatTensor)",
    'torch.device("cuda") == torch.device("cuda:0")',
    "gpu.is_pinned()",
)
TABLE.add(
    [1.0, 2.0, 3.0],
    "gpu.tolist()",
    "gpu.cpu().tolist()",
    "gpu.to('cuda:1').tolist()",
    "cpu.new_zeros(3).copy_(gpu).tolist()",
)
TABLE.add((0, -1), "(gpu.get_device(), cpu.get_device())")
TABLE.add((None, 0), '(torch.device("cuda").index, torch.device(0).index)')
TABLE.add(("cuda", 0, "cuda:0"), "(gpu.device.type, gpu.device.index, str(gpu.device))")
TABLE.add("torch.cuda.FloatTensor", "gpu.type()", "gpu1.type()")
TABLE.add(["torch.cuda.HalfTensor", "torch.cuda.LongTensor"], "[gpu.half().type(), gpu.long().type()]")
TABLE.add("tensor([1., 2., 3.], device='cuda:0')", "repr(gpu)", "str(gpu)", 'f"{gpu}"')
TABLE.add("tensor([1., 2., 3.], device='cuda:1')", "repr(gpu1)")
TABLE.add("tensor(2., device='cuda:0')", "repr(gpu_number)")
TABLE.add("tensor([0, 2], device='cuda:0')", "repr(gpu_index)")
TABLE.add("tensor([1., 2., 3.], device='cuda:0', dtype=torch.float16)", "repr(gpu.half())")
TABLE.add("tensor([1., 2., 3.], device='cuda:0', requires_grad=True)", "repr(gpu.requires_grad_())")
TABLE.add(
    "tensor([1., 2., 3.], device='cuda:0', grad_fn=<CloneBackward0>)", "repr(gpu.requires_grad_().clone())"
)
TABLE.add("tensor([], device='cuda:0', size=(0, 2))", "repr(torch.empty(0, 2, device='cuda'))")
TABLE.add(
    "Parameter containing:\ntensor([1., 2., 3.], device='cuda:0', requires_grad=True)",
    "repr(nn.Parameter(gpu))",
)
TABLE.add(
    exactly(AttributeError, "attribute 'device' of 'torch._C.TensorBase' objects is not writable"),
    'setattr(gpu, "device", "cpu")',
)


@TABLE.situation([True, True, CUDA0, True, True])
def module_to_is_in_place() -> object:
    """module.to(device) returns the module; its parameters stay the same objects, now on the GPU"""
    module = nn.Linear(2, 2)
    weight = module.weight
    same = module.to("cuda") is module
    return [same, module.weight is weight, weight.device, weight.is_leaf, isinstance(weight, nn.Parameter)]


@TABLE.situation([True, CPU, True])
def module_round_trip() -> object:
    """module.cuda().half().cpu(): the same parameter objects, back on the CPU"""
    module = nn.Linear(2, 2)
    weight = module.weight
    return [module.cuda().half().cpu().weight is weight, weight.device, type(weight) is nn.Parameter]


@TABLE.situation([CUDA0, CUDA0, CPU, 1])
def what_a_module_moves() -> object:
    """module.to moves buffers, also non-persistent ones; a plain tensor attribute stays behind"""
    module = nn.Module()
    module.register_buffer("saved", torch.zeros(1))
    module.register_buffer("unsaved", torch.zeros(1), persistent=False)
    module.plain = torch.zeros(1)
    module.cuda()
    return [module.saved.device, module.unsaved.device, module.plain.device, len(module.state_dict())]


@TABLE.situation([0, CPU])
def layers_in_a_list() -> object:
    """Layers in a plain list are not parameters, and stay on the CPU"""
    module = nn.Module()
    module.layers = [nn.Linear(1, 1)]
    module.cuda()
    return [len(list(module.parameters())), module.layers[0].weight.device]


@TABLE.situation([CUDA0, True])
def module_moves_gradients() -> object:
    """module.to moves the gradients too, as the same objects"""
    module = nn.Linear(2, 1)
    module(torch.ones(1, 2)).sum().backward()
    gradient = module.weight.grad
    module.cuda()
    return [module.weight.grad.device, module.weight.grad is gradient]


@TABLE.situation([CUDA0, torch.float16])
def parameter_data_can_be_replaced() -> object:
    """parameter.data = parameter.data.cuda() moves the parameter; module.half() keeps it there"""
    module = nn.Linear(1, 1)
    module.weight.data = module.weight.data.cuda()
    module.bias.data = module.bias.data.cuda()
    module.half()
    return [module.weight.device, module.weight.dtype]


@TABLE.situation([CUDA1, True, True, [1.0]], gpus=2)
def current_device_context() -> object:
    """with torch.cuda.device(1): "cuda" means cuda:1, also for .to("cuda") of a tensor on cuda:0"""
    on_zero = torch.ones(1, device="cuda:0")
    with torch.cuda.device(1):
        moved = on_zero.to("cuda")
        everything = {moved.device, torch.zeros(1, device="cuda").device, torch.ones(1).cuda().device}
        return [moved.device, everything == {CUDA1}, moved is not on_zero, moved.tolist()]


@TABLE.situation([CUDA0, True])
def deepcopy_tensor() -> object:
    """copy.deepcopy(tensor): a new tensor on the same device"""
    tensor = torch.ones(2, device="cuda")
    other = copy.deepcopy(tensor)
    return [other.device, other is not tensor and other.data_ptr() != tensor.data_ptr()]


@TABLE.situation([CUDA1, True, False, CUDA1], gpus=2)
def deepcopy_module() -> object:
    """copy.deepcopy(module): new parameters on the same device, with their gradients"""
    module = nn.Linear(1, 1).to("cuda:1")
    module.weight.sum().backward()
    other = copy.deepcopy(module)
    same = other.weight is module.weight
    return [other.weight.device, isinstance(other.weight, nn.Parameter), same, other.weight.grad.device]


@TABLE.situation([CUDA0, [1.0, 2.0], True])
def pickle_tensor() -> object:
    """pickle keeps device, values and whether gradients are wanted"""
    tensor = pickle.loads(pickle.dumps(torch.tensor([1.0, 2.0], device="cuda", requires_grad=True)))
    return [tensor.device, tensor.tolist(), tensor.requires_grad]


@TABLE.situation([[1.0, 5.0], [1.0, 5.0]])
def views_share_memory() -> object:
    """A view shares memory with its base; .detach() shares too"""
    base = torch.tensor([1.0, 2.0], device="cuda")
    base[1:].fill_(5.0)
    return [base.tolist(), base.detach().tolist()]
