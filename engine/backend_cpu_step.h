// One prepared node of the CPU backend: a few oneDNN primitives with their arguments.
#pragma once

#include <dnnl.hpp>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/backend_cpu_range.h"
#include "engine/no_throw.h"

namespace xception::cpu {

// Turns what oneDNN throws into a status.
template <class F>
Status catch_onednn(const std::string& what, F&& body) {
  const auto text = [&] { return what + ": out of memory"; };
  return no_throw(text, [&]() -> Status {
    try {
      return body();
    } catch (const dnnl::error& error) {
      const bool no_memory = error.status == dnnl_out_of_memory;
      return {no_memory ? Code::kOutOfMemory : Code::kInternal,
              what + ": oneDNN: " + error.message};
    } catch (const std::future_error&) {
      // Memory ran out for the same primitive before, here or on another thread: in the cache of
      // oneDNN 2.6 it stays as a promise that nobody keeps.
      throw std::bad_alloc();
    }
  });
}

// The same of what makes primitives. oneDNN 2.6 ends the process where it can allocate no memory
// for the code that it generates, so there has to be some before it begins.
Status check_code_memory(const std::string& what);
template <class F>
Status make_primitives(const std::string& what, F&& body) {
  XC_RETURN_IF_ERROR(check_code_memory(what));
  return catch_onednn(what, std::forward<F>(body));
}

// One engine a process: it is stateless for CPUs, and primitives of one cannot use memory of
// another.
const dnnl::engine& cpu_engine();

// Whether oneDNN may use an instruction set here. ISAs are bit sets: one that contains another has
// all of its bits.
inline bool has_isa(dnnl::cpu_isa isa) {
  const auto bits = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
}

inline dnnl::memory::dims dims_of(const Shape& s) { return {s.n, s.c, s.h, s.w}; }

// A convolution's weights as its primitive wants them, with the vectors of its epilogue.
struct PackedConv {
  std::shared_ptr<std::byte> storage;  // of the weights
  dnnl::memory weights;                // empty where a batch norm stands alone
  std::vector<float> bias;
  std::vector<float> second_scale;
  std::vector<float> second_shift;
  StepReach reach;

  std::size_t bytes() const {
    return (weights ? weights.get_desc().get_size() : 0) +
           (bias.size() + second_scale.size() + second_shift.size()) * sizeof(float);
  }
};

// Which buffer of the step an argument of a primitive is.
enum class Place { kSrc0, kSrc1, kDst, kWorkspace };

// An argument of a primitive: packed parameters, or a place in the buffers a step is bound to.
struct Argument {
  int id = 0;  // DNNL_ARG_*
  dnnl::memory value;
  Place place = Place::kDst;
  std::size_t offset = 0;  // bytes into that buffer
  bool fixed = false;      // points to packed parameters already
};

// A primitive with its arguments.
struct Call {
  dnnl::primitive primitive;
  std::vector<Argument> arguments;
  std::vector<dnnl_exec_arg_t> raw;  // the same as oneDNN's C interface takes them, made by bind
};

// Every stride-th pixel of every stride-th row of step input 0, which a step copies to its
// workspace before its calls.
struct StridedPixels {
  Shape src;
  Shape dst;
  int stride = 1;
  std::size_t pixel_bytes = 0;
  std::size_t offset = 0;  // of dst in the workspace
};

// Calls primitives one after another.
class CpuStep : public RangedStep {
 public:
  explicit CpuStep(dnnl::stream stream) : stream_(std::move(stream)) {}

  std::string implementation() const override { return implementation_; }
  std::size_t workspace_bytes() const override { return workspace_bytes_; }
  std::size_t parameter_bytes() const override { return packed_ ? packed_->bytes() : 0; }
  const void* parameters() const override { return packed_.get(); }
  bool overwrites_second() const override { return overwrites_second_; }

  Status bind(const StepBuffers& buffers) override;
  // Through oneDNN's C interface. It makes a small map for each call, and lets std::bad_alloc out
  // where that fails.
  Status run() override;
  double reach(double first, double added) const override { return reach_.of(first, added); }

  template <class PrimitiveDesc, class Primitive>
  void add_call(const PrimitiveDesc& desc, const Primitive& primitive,
                std::vector<Argument> arguments) {
    if (const std::size_t scratch = desc.scratchpad_desc().get_size(); scratch > 0) {
      arguments.push_back({DNNL_ARG_SCRATCHPAD, unbound(desc.scratchpad_desc()), Place::kWorkspace,
                           reserve_workspace(scratch)});
    }
    implementation_ += (calls_.empty() ? "" : ", ") + std::string(desc.impl_info_str());
    calls_.push_back({primitive, std::move(arguments), {}});
  }

  // Bytes at the returned offset of the workspace, for the whole of the step.
  std::size_t reserve_workspace(std::size_t bytes) {
    constexpr std::size_t kLine = 64;
    return std::exchange(workspace_bytes_, workspace_bytes_ + (bytes + kLine - 1) / kLine * kLine);
  }

  void set_gather(const StridedPixels& gather) { gather_ = gather; }
  void set_overwrites_second() { overwrites_second_ = true; }
  void set_reach(const StepReach& reach) { reach_ = reach; }
  void set_packed(std::shared_ptr<const PackedConv> packed) { packed_ = std::move(packed); }

  // A memory object that bind will point somewhere.
  static dnnl::memory unbound(const dnnl::memory::desc& desc) {
    return {desc, cpu_engine(), DNNL_MEMORY_NONE};
  }

 private:
  dnnl::stream stream_;
  std::optional<StridedPixels> gather_;
  const std::byte* gather_src_ = nullptr;
  std::byte* gather_dst_ = nullptr;
  std::vector<Call> calls_;
  std::shared_ptr<const PackedConv> packed_;
  std::string implementation_;
  std::size_t workspace_bytes_ = 0;
  bool overwrites_second_ = false;
  StepReach reach_;
};

}  // namespace xception::cpu
