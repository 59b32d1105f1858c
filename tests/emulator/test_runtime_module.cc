// Fat binaries as a program hands them in, made by hand: whole, without code for the device, and
// damaged.

#include <cstdint>
#include <cstring>

#include "tests/emulator/test_runtime_fixture.h"

// What nvcc's host code calls; no header declares them for other compilers.
extern "C" {
void** __cudaRegisterFatBinary(void* wrapper);
void __cudaRegisterFatBinaryEnd(void** handle);
void __cudaUnregisterFatBinary(void** handle);
void __cudaRegisterFunction(void** handle, const char* host, char* device_function,
                            const char* name, int thread_limit, uint3* tid, uint3* bid, dim3* block,
                            dim3* grid, int* warp_size);
}

namespace xception::emulator {
namespace {

constexpr const char* kNop = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry nop() { ret; }
)";

// A registered binary with one PTX entry and one kernel, `nop`.
class TestModule {
 public:
  TestModule(const std::string& ptx, std::uint32_t arch, std::uint64_t flags = 0)
      : image_(16 + 64 + ptx.size() + 8) {
    const std::size_t stored = (ptx.size() + 8) / 8 * 8;
    image_.resize(16 + 64 + stored);
    put<std::uint32_t>(0, 0xBA55ED50);
    put<std::uint16_t>(4, 1);
    put<std::uint16_t>(6, 16);
    put<std::uint64_t>(8, 64 + stored);
    put<std::uint16_t>(16, 1);
    put<std::uint32_t>(20, 64);
    put<std::uint64_t>(24, stored);
    put<std::uint32_t>(44, arch);
    put<std::uint64_t>(56, flags);
    std::memcpy(image_.data() + 80, ptx.data(), ptx.size());
  }
  ~TestModule() {
    if (handle_ != nullptr) {
      __cudaUnregisterFatBinary(handle_);
    }
  }
  TestModule(const TestModule&) = delete;
  TestModule& operator=(const TestModule&) = delete;

  void damage() { put<std::uint32_t>(0, 0); }

  void load() {
    wrapper_.data = image_.data();
    handle_ = __cudaRegisterFatBinary(&wrapper_);
    __cudaRegisterFunction(handle_, &host_, nullptr, "nop", -1, nullptr, nullptr, nullptr, nullptr,
                           nullptr);
    __cudaRegisterFatBinaryEnd(handle_);
  }

  cudaError_t launch() {
    const cudaError_t error = cudaLaunchKernel(&host_, dim3(1), dim3(1), nullptr, 0, nullptr);
    return error != cudaSuccess ? error : cudaDeviceSynchronize();
  }

  int ptx_version() {
    cudaFuncAttributes attributes{};
    CHECK_CUDA(cudaSuccess, cudaFuncGetAttributes(&attributes, &host_));
    return attributes.ptxVersion;
  }

 private:
  struct Wrapper {
    std::uint32_t magic = 0x466243B1;
    std::uint32_t version = 1;
    const void* data = nullptr;
    void* file_name = nullptr;
  };

  template <class T>
  void put(std::size_t offset, T value) {
    std::memcpy(image_.data() + offset, &value, sizeof(T));
  }

  std::vector<char> image_;
  Wrapper wrapper_;
  void** handle_ = nullptr;
  char host_ = 0;  // its address stands for the kernel
};

TEST_CASE("a kernel of a binary runs while the binary is registered") {
  XC_NEEDS_EMULATOR();
  TestModule module(kNop, 70);
  CHECK_CUDA(cudaErrorInvalidDeviceFunction, module.launch());
  module.load();
  CHECK_CUDA(cudaSuccess, module.launch());
  CHECK_CUDA(cudaSuccess, module.launch());
  (void)cudaGetLastError();
}

TEST_CASE("a binary without PTX for the device has no kernel image") {
  XC_NEEDS_EMULATOR();
  TestModule module(kNop, 121);
  module.load();
  CHECK_CUDA(cudaErrorNoKernelImageForDevice, module.launch());
  CHECK_CUDA(cudaErrorNoKernelImageForDevice, cudaGetLastError());
  CHECK_CUDA(cudaSuccess, cudaGetLastError());
}

TEST_CASE("PTX of sm_90a is for a device of 9.0 alone") {
  XC_NEEDS_EMULATOR();
  int major = 0;
  int minor = 0;
  CHECK_CUDA(cudaSuccess, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  CHECK_CUDA(cudaSuccess, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  std::string ptx = kNop;
  ptx.replace(ptx.find("sm_70"), 5, "sm_90a");
  constexpr std::uint64_t kExactArch = 0x100000;  // as nvcc marks compute_90a
  TestModule module(ptx, 90, kExactArch);
  module.load();
  if (10 * major + minor == 90) {
    CHECK_CUDA(cudaSuccess, module.launch());
    CHECK(module.ptx_version() == 90);
  } else {
    CHECK_CUDA(cudaErrorNoKernelImageForDevice, module.launch());
  }
  (void)cudaGetLastError();
}

TEST_CASE("PTX that cannot be read is an error that names the line") {
  XC_NEEDS_EMULATOR();
  TestModule module(std::string(kNop) + ".visible .entry broken( { ret; }\n", 70);
  module.load();
  CHECK_CUDA(cudaErrorInvalidPtx, module.launch());
  CHECK_CONTAINS(emulator_control()->last_fault(), "line 6");
  CHECK_CUDA(cudaErrorInvalidPtx, module.launch());  // it stays so, and the device lives
  CHECK_CUDA(cudaSuccess, cudaDeviceSynchronize());
  (void)cudaGetLastError();
}

TEST_CASE("a kernel that the binary lacks is no function of the device") {
  XC_NEEDS_EMULATOR();
  std::string ptx = kNop;
  ptx.replace(ptx.find("nop"), 3, "pop");
  TestModule module(ptx, 70);
  module.load();
  CHECK_CUDA(cudaErrorInvalidDeviceFunction, module.launch());
  (void)cudaGetLastError();
}

TEST_CASE("a damaged binary is an invalid image") {
  XC_NEEDS_EMULATOR();
  TestModule module(kNop, 70);
  module.damage();
  module.load();
  CHECK_CUDA(cudaErrorInvalidKernelImage, module.launch());
  (void)cudaGetLastError();
}

}  // namespace
}  // namespace xception::emulator
