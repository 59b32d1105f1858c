#include "engine/backend_cpu_step.h"

namespace xception::cpu {
namespace {

std::byte* address(const Argument& argument, const StepBuffers& buffers) {
  switch (argument.place) {
    case Place::kSrc0:
      return buffers.src[0] + argument.offset;
    case Place::kSrc1:
      return buffers.src[1] + argument.offset;
    case Place::kDst:
      return buffers.dst + argument.offset;
    case Place::kWorkspace:
      return buffers.workspace + argument.offset;
  }
  return nullptr;
}

}  // namespace

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Status CpuStep::bind(const StepBuffers& buffers) {
  return guarded("bind", [&] {
    for (Call& call : calls_) {
      call.raw.clear();
      for (Argument& argument : call.arguments) {
        if (!argument.fixed) {
          argument.value.set_data_handle(address(argument, buffers));
        }
        call.raw.push_back({argument.id, argument.value.get()});
      }
    }
    return Status();
  });
}

Status CpuStep::run() {
  for (const Call& call : calls_) {
    const dnnl_status_t status = dnnl_primitive_execute(
        call.primitive.get(), stream_.get(), static_cast<int>(call.raw.size()), call.raw.data());
    if (status != dnnl_success) {
      return {Code::kInternal,
              "oneDNN failed to run " + implementation_ + ": status " + std::to_string(status)};
    }
  }
  return {};
}

}  // namespace xception::cpu
