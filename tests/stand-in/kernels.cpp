// Operations: those of the CPU, on tensors that say they are elsewhere.
//
// A tensor of the stand-in lies in host memory, so a CPU tensor over the same memory stands in for it
// while a CPU kernel runs. What comes back is again the stand-in's: the argument that was written to, a
// view of one, or something new.

#include "stand_in.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/StorageImpl.h>
#include <torch/library.h>

#include <map>
#include <optional>

namespace stand_in {
namespace {

using at::Tensor;
using c10::IValue;
using c10::StorageImpl;

// A CPU storage over the memory of `storage`, which stays alive with it. An empty one may be asked to grow.
c10::intrusive_ptr<StorageImpl> over(const c10::Storage& storage) {
  auto* cpu = c10::GetAllocator(c10::kCPU);
  if (storage.nbytes() > 0) {
    auto* keep = new c10::Storage(storage);
    auto let_go = [](void* kept) { delete static_cast<c10::Storage*>(kept); };
    c10::DataPtr data(storage.mutable_data(), keep, let_go, c10::kCPU);
    return c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), storage.nbytes(), std::move(data), cpu,
                                            /*resizable=*/false);
  }
  return c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), 0, cpu, /*resizable=*/true);
}

Tensor with_storage(const Tensor& like, c10::intrusive_ptr<StorageImpl> storage, c10::DispatchKey key) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(std::move(storage)), c10::DispatchKeySet(key),
                                                         like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return tensor;
}

// One call: which CPU tensor stands for which of ours.
struct Call {
  std::string name;
  std::optional<c10::Device> device;
  std::map<StorageImpl*, c10::intrusive_ptr<StorageImpl>> to_cpu;
  std::map<StorageImpl*, c10::Storage> from_cpu;
  std::map<c10::TensorImpl*, Tensor> arguments;
  std::vector<Tensor> alive{};

  Tensor cpu(const Tensor& ours) {
    if (!ours.defined()) return ours;
    if (!ours.is_cuda()) {
      // A number on the host may meet a tensor on a device, and nothing else may.
      bool meets = ours.dim() == 0 || name == "aten::copy_" || name == "aten::_copy_from";
      TORCH_CHECK(meets, name, ": Expected all tensors to be on the same device, but one is on ", ours.device());
      return ours;
    }
    TORCH_CHECK(!device || *device == ours.device() || name == "aten::copy_", name,
                ": Expected all tensors to be on the same device, but they are on ", *device, " and ", ours.device());
    device = ours.device();
    auto& storage = to_cpu[ours.storage().unsafeGetStorageImpl()];
    if (!storage) {
      storage = over(ours.storage());
      from_cpu[storage.get()] = ours.storage();
    }
    Tensor theirs = with_storage(ours, storage, c10::DispatchKey::CPU);
    arguments[theirs.unsafeGetTensorImpl()] = ours;
    alive.push_back(theirs);
    return theirs;
  }

  Tensor ours(const Tensor& theirs) {
    if (!theirs.defined() || !theirs.is_cpu()) return theirs;
    auto argument = arguments.find(theirs.unsafeGetTensorImpl());
    if (argument != arguments.end()) return argument->second;
    auto view = from_cpu.find(theirs.storage().unsafeGetStorageImpl());
    if (view != from_cpu.end()) {
      c10::Storage storage = view->second;
      return with_storage(theirs, c10::intrusive_ptr<StorageImpl>::reclaim_copy(storage.unsafeGetStorageImpl()),
                          c10::DispatchKey::CUDA);
    }
    // New: it moves to the device's memory.
    auto storage = c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), theirs.storage().nbytes(),
                                                    on_device(theirs), memory(), /*resizable=*/true);
    return with_storage(theirs, std::move(storage), c10::DispatchKey::CUDA);
  }

  c10::DataPtr on_device(const Tensor& theirs) {
    c10::DeviceGuard guard(device.value_or(c10::Device(CUDA, 0)));
    size_t bytes = theirs.storage().nbytes();
    auto data = memory()->allocate(bytes);
    if (bytes > 0) std::memcpy(data.get(), theirs.storage().data(), bytes);
    return data;
  }

  // Outputs that a kernel has made larger, or given another shape.
  void grow() {
    for (auto& [impl, ours] : arguments) {
      Tensor theirs(c10::intrusive_ptr<c10::TensorImpl>::reclaim_copy(impl));
      if (theirs.storage().nbytes() > ours.storage().nbytes()) {
        ours.storage().set_data_ptr_noswap(on_device(theirs));
        ours.storage().set_nbytes(theirs.storage().nbytes());
      }
      auto* impl_of_ours = ours.unsafeGetTensorImpl();
      if (ours.sizes() != theirs.sizes()) impl_of_ours->set_sizes_and_strides(theirs.sizes(), theirs.strides());
    }
  }

  // Of tensors, lists of them, and devices; others stay as they are.
  template <typename F>
  IValue each(const IValue& value, F change) {
    if (value.isTensor()) return change(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& tensor : value.toTensorVector()) list.push_back(change(tensor));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
        list.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
      }
      return list;
    }
    return value;
  }
};

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call call;
  call.name = op.schema().name();
  size_t inputs = op.schema().arguments().size(), first = stack->size() - inputs;
  bool reads = call.name == "aten::_local_scalar_dense" || call.name == "aten::nonzero" ||
               call.name == "aten::masked_select" || call.name == "aten::equal";
  if (reads) host_waited(call.name.c_str());
  for (size_t i = first; i < stack->size(); i++) {
    IValue& value = (*stack)[i];
    if (value.isDevice()) {
      call.device = value.toDevice();
      value = c10::Device(c10::kCPU);
    } else {
      value = call.each(value, [&](const Tensor& tensor) { return call.cpu(tensor); });
    }
  }
  {
    at::AutoDispatchBelowADInplaceOrView below;
    op.callBoxed(stack);
    call.grow();
  }
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); i++) {
    (*stack)[i] = call.each((*stack)[i], [&](const Tensor& tensor) { return call.ours(tensor); });
  }
}

// A copy to the host, or from memory of its own that is not page-locked, ends before the call returns. A
// number goes along in the call itself.
void copy(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const Tensor &to = (*stack)[stack->size() - 3].toTensor(), &from = (*stack)[stack->size() - 2].toTensor();
  bool non_blocking = (*stack)[stack->size() - 1].toBool();
  bool queued = non_blocking && is_page_locked(from.storage().data());
  if (to.is_cpu() || (from.is_cpu() && from.dim() > 0 && !queued)) host_waited("a copy");
  on_cpu(op, stack);
}

// Products of bf16 numbers that are not rounded to bf16, which the CPU does not have.
Tensor mm(const Tensor& a, const Tensor& b, at::ScalarType to) {
  TORCH_CHECK(a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16 && to == at::kFloat,
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
  return at::mm(a.to(to), b.to(to));
}

Tensor& addmm(const Tensor& sum, const Tensor& a, const Tensor& b, at::ScalarType to, const at::Scalar& beta,
              const at::Scalar& alpha, Tensor& out) {
  TORCH_CHECK(sum.scalar_type() == to && out.scalar_type() == to, "out_dtype must be that of self and of out");
  TORCH_CHECK(a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16 && to == at::kFloat,
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
  return at::addmm_out(out, sum, a.to(to), b.to(to), beta, alpha);
}

// CUDA's flash attention asks for more than the CPU's.
void check_flash(std::initializer_list<Tensor> tensors) {
  for (const Tensor& t : tensors) {
    TORCH_CHECK(t.is_cuda() && (t.scalar_type() == at::kBFloat16 || t.scalar_type() == at::kHalf),
                "FlashAttention only support fp16 and bf16 data type");
    TORCH_CHECK(t.dim() == 4 && t.stride(-1) == 1, "Input tensor must have contiguous last dimension");
    TORCH_CHECK(t.size(3) % 8 == 0 && t.size(3) <= 256, "FlashAttention takes heads of 8 to 256, in eights");
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> flash(
    const Tensor& q, const Tensor& k, const Tensor& v, double dropout, bool causal, bool,
    std::optional<double> scale) {
  check_flash({q, k, v});
  auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, causal, {}, scale);
  auto state = at::empty({2}, q.options().dtype(at::kUInt64)), unused = at::empty({}, q.options());
  return {out, lse.contiguous(), Tensor(), Tensor(), q.size(2), k.size(2), state, state, unused};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const Tensor& out, const Tensor& lse, const Tensor& from_q,
                                                  const Tensor& from_k, c10::SymInt, c10::SymInt, double dropout,
                                                  bool causal, const Tensor& seed, const Tensor&,
                                                  std::optional<double> scale) {
  check_flash({grad, q, k, v, out});
  TORCH_CHECK(!from_q.defined() && !from_k.defined() && seed.is_cuda(), "not of a batch of one length");
  TORCH_CHECK(lse.is_contiguous() && lse.scalar_type() == at::kFloat, "the log-sum-exp is contiguous, in f32");
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(grad, q, k, v, out, lse, dropout, causal, {}, scale);
}

// Flash attention where CUDA has it, and for other dtypes plain products. In f32 CUDA has another kernel,
// but only for as many key/value heads as query heads; a program that wants products there is at fault.
int64_t choose(const Tensor& q, const Tensor& k, const Tensor&, const std::optional<Tensor>&, double, bool,
               std::optional<double>, bool) {
  bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  TORCH_CHECK(q.scalar_type() != at::kFloat || q.size(1) == k.size(1), "in f32 this would store the scores");
  return static_cast<int64_t>(half ? at::SDPBackend::flash_attention : at::SDPBackend::math);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&copy>());
  library.impl("mm.dtype", mm);
  library.impl("addmm.dtype_out", addmm);
  library.impl("_scaled_dot_product_flash_attention", flash);
  library.impl("_scaled_dot_product_flash_attention_backward", flash_backward);
}

}  // namespace stand_in

namespace at::native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &stand_in::choose)
}  // namespace at::native
