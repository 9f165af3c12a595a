// What tch does not expose of libtorch, behind a C interface. lib.rs holds the other half.
//
// No exception crosses into Rust and no panic crosses into C++: every entry point returns nullptr or
// a message (malloc'd, freed by Rust), and every callback returns false after filling `error`.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::variable_list;

extern "C" {
bool ferrotron_backward(void* closure, const Tensor* grad, variable_list* grads, std::string* error);
bool ferrotron_hook(void* closure, std::string* error);
void ferrotron_drop_backward(void* closure);
void ferrotron_drop_hook(void* closure);
}

namespace {

// A node of the autograd graph whose backward pass is a Rust closure.
struct RustNode : Node {
  void* closure;
  at::TensorOptions options;
  std::vector<int64_t> shape;

  RustNode(void* closure, const Tensor& output)
      : closure(closure), options(output.options()), shape(output.sizes().vec()) {}
  ~RustNode() override { drop(); }
  std::string name() const override { return "ferrotron::RustNode"; }

  void drop() {
    if (closure != nullptr) ferrotron_drop_backward(closure);
    closure = nullptr;
  }
  // Called by the engine after `apply`, unless the graph is kept: what the closure saved is freed.
  // (The lock is the node's own: passes of several threads may meet in it.)
  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    drop();
  }

  variable_list apply(variable_list&& gradients) override {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(closure != nullptr, "backward ran a second time through a graph that was not kept");
    // The output took no part in the loss: its gradient is zero.
    Tensor grad = gradients[0].defined() ? gradients[0] : at::zeros(shape, options);
    variable_list result;
    std::string error;
    if (!ferrotron_backward(closure, &grad, &result, &error)) throw std::runtime_error(error);
    // Weights come last. The closure has added to their gradients by itself: nothing more goes there, and
    // their hooks run.
    result.resize(num_outputs());
    return result;
  }
};

struct RustHook : torch::autograd::PostAccumulateGradHook {
  void* closure;
  explicit RustHook(void* closure) : closure(closure) {}
  ~RustHook() override { ferrotron_drop_hook(closure); }
  void operator()(const Tensor&) override {
    std::string error;
    // It may remove this very hook: from here on nothing of `this` is touched.
    if (!ferrotron_hook(closure, &error)) throw std::runtime_error(error);
  }
};

template <typename F>
char* guarded(F body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

std::vector<Tensor> list(Tensor* const* tensors, size_t n) {
  std::vector<Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}

}  // namespace

extern "C" {

void ferrotron_push(variable_list* grads, const Tensor* grad) { grads->push_back(*grad); }

void ferrotron_set_error(std::string* error, const char* text, size_t length) { error->assign(text, length); }

// Gives `output` (computed without history) a node that calls `closure`. Takes the closure in any case.
char* ferrotron_custom(Tensor* const* inputs, size_t n, const Tensor* output, void* closure, Tensor** result) {
  std::shared_ptr<RustNode> node;
  char* error = guarded([&] {
    node = std::shared_ptr<RustNode>(new RustNode(closure, *output), torch::autograd::deleteNode);
    closure = nullptr;  // the node's, from here on
    auto tensors = list(inputs, n);
    Tensor out = output->detach();
    if (at::GradMode::is_enabled() && torch::autograd::any_variable_requires_grad(tensors)) {
      node->set_next_edges(torch::autograd::collect_next_edges(tensors));
      torch::autograd::set_history(out, node);
    }
    *result = new Tensor(out);
  });
  if (closure != nullptr) ferrotron_drop_backward(closure);
  return error;
}

// `closure` runs each time that a backward pass has added to `param.grad`; nullptr removes it. Takes the
// closure in any case.
char* ferrotron_set_hook(Tensor* param, void* closure) {
  return guarded([&] {
    std::unique_ptr<torch::autograd::PostAccumulateGradHook> hook;
    if (closure != nullptr) {
      hook = std::make_unique<RustHook>(closure);
      TORCH_CHECK(torch::autograd::impl::post_acc_grad_hooks(*param) == nullptr,
                  "the parameter has a gradient hook already");
    }
    torch::autograd::impl::set_post_acc_grad_hooks(*param, std::move(hook));
  });
}

char* ferrotron_set_grad(Tensor* param, const Tensor* grad) {
  return guarded([&] { param->mutable_grad() = *grad; });
}

char* ferrotron_backward_with(const Tensor* output, const Tensor* grad) {
  return guarded([&] { output->backward(*grad); });
}

char* ferrotron_norms(Tensor* const* tensors, size_t n, Tensor** result) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *result = new Tensor(at::stack(at::_foreach_norm(list(tensors, n), 2)));
  });
}

char* ferrotron_scale(Tensor* const* tensors, size_t n, const Tensor* factor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_foreach_mul_(list(tensors, n), *factor);
  });
}

char* ferrotron_adamw(Tensor* const* params, Tensor* const* grads, Tensor* const* exp_avgs, Tensor* const* exp_avg_sqs,
                      size_t n, int64_t step, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, n);
    // The kernel wants a counter for each tensor; all are at the same step.
    Tensor count = at::full({}, static_cast<double>(step), p[0].options().dtype(at::kFloat).requires_grad(false));
    at::_fused_adamw_(p, list(grads, n), list(exp_avgs, n), list(exp_avg_sqs, n), {}, std::vector<Tensor>(n, count), lr,
                      beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
    // libtorch counts the writes to each tensor, but not those of this kernel; see `Stacked`.
    for (const Tensor& param : p) param.unsafeGetTensorImpl()->bump_version();
  });
}

// CUDA's flash attention, with the log-sum-exp.
char* ferrotron_flash(const Tensor* q, const Tensor* k, const Tensor* v, bool causal, Tensor** out, Tensor** lse) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto all = at::_scaled_dot_product_flash_attention(*q, *k, *v, /*dropout_p=*/0.0, causal);
    auto first = std::make_unique<Tensor>(std::get<0>(all));
    *lse = new Tensor(std::get<1>(all));
    *out = first.release();
  });
}

// Its backward pass; `inputs`: gradient, q, k, v, output, log-sum-exp, the last two of all blocks.
char* ferrotron_flash_backward(Tensor* const* inputs, bool causal, Tensor** grads) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto in = list(inputs, 6);
    // Without dropout nobody looks at the state of its generator, but it must be there.
    auto state = at::empty({2}, in[1].options().dtype(at::kUInt64));
    // The kernel takes the log-sum-exp for contiguous, which that of some rows is not.
    auto all = at::_scaled_dot_product_flash_attention_backward(
        in[0], in[1], in[2], in[3], in[4], in[5].contiguous(), /*cum_seq_q=*/Tensor(), /*cum_seq_k=*/Tensor(),
        in[1].size(2), in[2].size(2), /*dropout_p=*/0.0, causal, state, state);
    grads[0] = new Tensor(std::get<0>(all));
    grads[1] = new Tensor(std::get<1>(all));
    grads[2] = new Tensor(std::get<2>(all));
  });
}
}
