// A torch device for machines without a GPU: it keeps its data in host memory and computes on the CPU, but
// as CUDA does it refuses an operation on tensors of two devices. Loading this library registers it.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>

namespace {

const c10::Device PLACE(c10::DeviceType::PrivateUse1, 0);
const c10::Stream STREAM(c10::Stream::DEFAULT, PLACE);
const c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override
  {
    void *at = bytes ? std::malloc(bytes) : nullptr;
    return {at, at, &std::free, PLACE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &memory);

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  c10::Device getDevice() const override { return PLACE; }
  c10::Device exchangeDevice(c10::Device) const override { return PLACE; }
  c10::Stream getStream(c10::Device) const noexcept override { return STREAM; }
  c10::Stream getDefaultStream(c10::Device) const override { return STREAM; }
  c10::Stream getNewStream(c10::Device, int) const override { return STREAM; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return STREAM; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void **event, const c10::Stream &, c10::DeviceIndex, c10::EventFlag) const override
  {
    *event = const_cast<c10::Device *>(&PLACE);
  }
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  void destroyEvent(void *, c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream &) const override { return true; }
  void synchronizeStream(const c10::Stream &) const override {}
  void synchronizeEvent(void *) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void init() const override {}
  at::Generator getNewGenerator(c10::DeviceIndex) const override
  {
    return at::make_generator<at::CPUGeneratorImpl>();
  }
  const at::Generator &getDefaultGenerator(c10::DeviceIndex) const override
  {
    return at::detail::getDefaultCPUGenerator();
  }
  c10::Device getDeviceFromPtr(void *) const override { return PLACE; }
  void resizePrivateUse1Bytes(const c10::Storage &storage, size_t bytes) const override
  {
    c10::DataPtr data = memory.allocate(bytes);
    std::memcpy(data.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};
const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks()), true);

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format)
{
  return at::detail::empty_generic(size, &memory, KEYS, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>)
{
  return at::detail::empty_strided_generic(size, stride, &memory, KEYS, c10::dtype_or_default(dtype));
}

// The same memory as a CPU tensor.
at::Tensor host(const at::Tensor &tensor)
{
  if (!tensor.defined() || tensor.is_cpu())
    return tensor;
  auto kept = tensor.storage();
  auto *start = static_cast<char *>(kept.mutable_data()) + tensor.storage_offset() * tensor.element_size();
  return at::from_blob(start, tensor.sizes(), tensor.strides(), [kept](void *) {},
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

at::Tensor copy_from(const at::Tensor &from, const at::Tensor &to, bool)
{
  host(to).copy_(host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor &from, const at::Tensor &to)
{
  at::native::resize_(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar item(const at::Tensor &tensor) { return host(tensor).item(); }

at::Tensor &set_storage(at::Tensor &tensor, at::Storage storage, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride)
{
  auto *impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_storage_offset(offset);
  impl->set_sizes_and_strides(size, stride);
  return tensor;
}

using Sizes = c10::SymIntArrayRef;

at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias,
                    Sizes stride, Sizes padding, Sizes dilation, bool transposed, Sizes output, c10::SymInt groups)
{
  TORCH_CHECK(x.device() == weight.device(), "Expected all tensors to be on the same device: convolution");
  auto add = bias ? std::optional<at::Tensor>(host(*bias)) : bias;
  return at::convolution_symint(host(x), host(weight), add, stride, padding, dilation, transposed, output, groups)
      .to(PLACE);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor>
convolve_backward(const at::Tensor &gradient, const at::Tensor &x, const at::Tensor &weight, Sizes stride,
                  Sizes padding, Sizes dilation, bool transposed, Sizes output, c10::SymInt groups,
                  std::array<bool, 3> wanted)
{
  std::vector<c10::SymInt> bias{weight.sym_size(0)};
  auto found = at::convolution_backward_symint(host(gradient), host(x), host(weight), Sizes(bias), stride, padding,
                                               dilation, transposed, output, groups, wanted);
  auto up = [](const at::Tensor &part) { return part.defined() ? part.to(PLACE) : part; };
  return {up(std::get<0>(found)), up(std::get<1>(found)), up(std::get<2>(found))};
}

// Every other operation: on the CPU, if its tensors are on one device. CUDA takes numbers (no dimension) and
// indices from the host as well.
void compute(const c10::OperatorHandle &operation, torch::jit::Stack *stack)
{
  const auto &schema = operation.schema();
  bool on_host = false, here = false;
  auto see = [&](const at::Tensor &tensor) {
    if (tensor.defined() && tensor.is_privateuseone())
      here = true;
    else if (tensor.defined() && tensor.dim() > 0)
      on_host = true;
  };
  for (const auto &value : torch::jit::last(*stack, schema.arguments().size())) {
    if (value.isTensor())
      see(value.toTensor());
    else if (value.isList())
      for (const c10::IValue &part : value.toListRef())
        if (part.isTensor())
          see(part.toTensor());
  }
  const bool index = schema.name().rfind("aten::index", 0) == 0 || schema.name().rfind("aten::_index_put", 0) == 0;
  TORCH_CHECK(index || !(on_host && here), "Expected all tensors to be on the same device: ", schema.name());
  at::native::cpu_fallback(operation, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m)
{
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("convolution_overrideable", &convolve);
  m.impl("convolution_backward_overrideable", &convolve_backward);
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("resize_", TORCH_FN(at::native::resize_));
}
