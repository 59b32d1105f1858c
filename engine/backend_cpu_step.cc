#include "engine/backend_cpu_step.h"

#include <sys/mman.h>

#include <cstring>

#include "engine/openmp.h"

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

// On all threads at once.
void gather(const StridedPixels& pixels, const std::byte* src, std::byte* dst) {
  const Shape& from = pixels.src;
  const Shape& to = pixels.dst;
  const auto pixel_bytes = static_cast<std::int64_t>(pixels.pixel_bytes);
  parallel_for(to.n * to.h, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const std::int64_t line =
          std::int64_t{row / to.h} * from.h + std::int64_t{row % to.h} * pixels.stride;
      std::byte* out = dst + std::int64_t{row} * to.w * pixel_bytes;
      for (int q = 0; q < to.w; ++q) {
        const std::int64_t pixel = line * from.w + std::int64_t{q} * pixels.stride;
        std::memcpy(out, src + pixel * pixel_bytes, pixels.pixel_bytes);
        out += pixel_bytes;
      }
    }
  });
}

}  // namespace

Status check_code_memory(const std::string& what) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;  // many times what one step takes
  void* const room =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    return {Code::kOutOfMemory,
            what + ": there are no 64 MiB left to generate code in; give the process more memory"};
  }
  ::munmap(room, kBytes);
  return {};
}

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Status CpuStep::bind(const StepBuffers& buffers) {
  gather_src_ = buffers.src[0];
  gather_dst_ = buffers.workspace;
  return catch_onednn("bind", [&] {
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
  if (gather_) {
    gather(*gather_, gather_src_, gather_dst_ + gather_->offset);
  }
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
